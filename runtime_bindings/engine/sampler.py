"""Logits and the wishes of each row go in; the chosen token ids come out, with log-probabilities where asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.selection import (
    BANNED,
    ROUNDING,
    Weights,
    draw,
    exponentials,
    largest,
    largest_mass,
    total,
    weigh,
    where,
)
from argosy.support.errors import ArgosyError


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """Natural-log probabilities under the model's own distribution, before bias, penalties, truncation and
    temperature."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One chosen token."""

    token: int
    logprob: TokenLogprob | None


class Sampler:
    """Chooses tokens for one request: its parameters and its own random generator (PCG64), so that the same seed gives
    the same draws whatever else is in the batch."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self._random = np.random.Generator(np.random.PCG64(params.seed))

    def sample(self, logits: np.ndarray, history: Sequence[int]) -> Sample:
        """`logits`: (vocab,) float32, not changed; `history`: prompt and answer so far, which the penalties look at."""
        params = self.params
        adjusted = adjust(logits, params, history)
        weights = weigh(logits) if params.logprobs and math.isfinite(logits.max()) else None
        if params.temperature == 0.0:
            token = int(np.argmax(adjusted))
            if not math.isfinite(adjusted[token]):
                raise not_finite()
        else:
            ids, kept = truncate(adjusted, params, weights if adjusted is logits else None)
            place = draw(exponentials(kept, kept.max(), params.temperature), self._random.random())
            token = place if ids is None else int(ids[place])
        return Sample(token, token_logprob(logits, token, params.top_logprobs, weights) if params.logprobs else None)


def sample_rows(
    samplers: Sequence[Sampler], logits: np.ndarray, histories: Sequence[Sequence[int]]
) -> list[Sample | ArgosyError]:
    """One sample for each row of `logits` (b, vocab). A row that cannot be sampled yields its error and spares the
    others."""
    chosen: list[Sample | ArgosyError] = []
    for sampler, row, history in zip(samplers, logits, histories, strict=True):
        try:
            chosen.append(sampler.sample(row, history))
        except ArgosyError as error:
            chosen.append(error)
    return chosen


def adjust(logits: np.ndarray, params: SamplingParams, history: Sequence[int]) -> np.ndarray:
    """Steps 1 and 2 of `SamplingParams`; returns `logits` itself where they do nothing."""
    if params.logit_bias:
        logits = logits.copy()
        ids = np.fromiter(params.logit_bias.keys(), dtype=np.int64, count=len(params.logit_bias))
        logits[ids] += np.fromiter(params.logit_bias.values(), dtype=np.float64, count=len(ids)).astype(logits.dtype)
    if params.penalises:
        seen = history if params.repeat_last_n < 0 else history[-params.repeat_last_n :]
        ids, counts = np.unique(np.asarray(seen, dtype=np.int64), return_counts=True)
        logits = logits.copy()
        values = logits[ids]
        values = np.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
        logits[ids] = values - counts * params.frequency_penalty - params.presence_penalty
    return logits


def truncate(
    logits: np.ndarray, params: SamplingParams, weights: Weights | None = None
) -> tuple[np.ndarray | None, np.ndarray]:
    """Steps 3 to 6: the ids that are left, ascending, at least one, and their logits; None for the ids of all.

    `weights`: those of `logits`, where they are known.
    """
    if not math.isfinite(logits.max()):
        raise not_finite()
    ids, kept = None, logits

    def keep(chosen: np.ndarray) -> None:
        nonlocal ids, kept
        ids, kept = chosen if ids is None else ids[chosen], kept[chosen]

    if 0 < params.top_k < len(logits):
        keep(largest(logits, params.top_k))
    if params.typical_p < 1.0:
        known = weights if ids is None and weights is not None else weigh(kept)
        keep(largest_mass(_typicality(kept, known), known.values, (params.typical_p - ROUNDING) * known.total))
    if params.top_p < 1.0:
        known = weights if ids is None and weights is not None else weigh(kept)
        keep(largest_mass(kept, known.values, (params.top_p - ROUNDING) * known.total))
    if params.min_p > 0.0:
        keep(where(kept >= kept.max() + math.log(params.min_p)))
    return ids, kept


def _typicality(logits: np.ndarray, weights: Weights) -> np.ndarray:
    """Minus the distance of each token's surprise from the entropy."""
    logprobs = np.subtract(logits, np.float32(weights.log_sum))
    np.maximum(logprobs, BANNED, out=logprobs)
    entropy = -total(weights.values * logprobs) / weights.total
    np.add(logprobs, np.float32(entropy), out=logprobs)
    return np.negative(np.abs(logprobs, out=logprobs), out=logprobs)


def token_logprob(logits: np.ndarray, token: int, top: int, weights: Weights | None = None) -> TokenLogprob:
    """The log-probability of `token`, and of the `top` likeliest tokens, likeliest first."""
    log_sum = (weights or weigh(logits)).log_sum
    ids = largest(logits, top) if top else np.empty(0, dtype=np.int64)
    ordered = ids[np.argsort(-logits[ids], kind="stable")]
    best = tuple((int(i), float(logits[i]) - log_sum) for i in ordered)
    return TokenLogprob(token, float(logits[token]) - log_sum, best)


def not_finite() -> ArgosyError:
    """The error for logits that hold NaN or infinity only."""
    return ArgosyError(
        "the model's logits hold no finite number to choose from (`nan` or every token banned)",
        "lift the bans in logit_bias; if there are none, the weights or the library are broken: build them again",
    )
