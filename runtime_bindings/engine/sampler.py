"""Logits and the wishes of each row go in; the chosen token ids come out, with log-probabilities where asked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.support.errors import ArgosyError

# Sums of probabilities are off by less: of 12 equal tokens half the mass is 6, and not 7.
ROUNDING = 1e-6
# How far below the best score `nearest_to_best` looks first, and where it takes all; scores are logarithms.
FIRST_SPAN = 4.0
LAST_SPAN = 64.0


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
        if params.temperature == 0.0:
            token = int(np.argmax(adjusted))
            if not math.isfinite(adjusted[token]):
                raise not_finite()
        else:
            ids, kept = truncate(adjusted, params)
            token = self._draw(ids, kept)
        return Sample(token, token_logprob(logits, token, params.top_logprobs) if params.logprobs else None)

    def _draw(self, ids: np.ndarray, logits: np.ndarray) -> int:
        """Draws one of `ids` by the inverse of the cumulative distribution; always takes exactly one random number."""
        scaled = (logits - logits.max()) / np.float32(self.params.temperature)
        cumulative = np.cumsum(np.exp(scaled).astype(np.float64))
        position = int(np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        return int(ids[min(position, len(ids) - 1)])


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


def truncate(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray, np.ndarray]:
    """Steps 3 to 6: the ids that are left, ascending, and their logits. At least one is left."""
    if not math.isfinite(logits.max()):
        raise not_finite()
    ids = np.arange(len(logits)) if params.top_k == 0 else largest(logits, params.top_k)
    kept = logits[ids] if params.top_k else logits
    if params.typical_p < 1.0:
        probabilities = softmax(kept)
        surprise = np.where(np.isfinite(kept), log_sum(kept) - kept, np.float32(np.finfo(np.float32).max))
        entropy = np.float32(np.dot(probabilities, surprise))
        chosen = largest_mass(-np.abs(surprise - entropy), probabilities, params.typical_p)
        ids, kept = ids[chosen], kept[chosen]
    if params.top_p < 1.0:
        chosen = largest_mass(kept, softmax(kept), params.top_p)
        ids, kept = ids[chosen], kept[chosen]
    if params.min_p > 0.0:
        chosen = np.flatnonzero(kept >= kept.max() + math.log(params.min_p))
        ids, kept = ids[chosen], kept[chosen]
    return ids, kept


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Ascending indices of the `count` largest scores, ties to the lower index."""
    if count >= len(scores):
        return np.arange(len(scores))
    candidates = next(found for found in nearest_to_best(scores) if len(found) >= count)
    values = scores[candidates]
    threshold = np.partition(values, len(values) - count)[len(values) - count]
    above = candidates[values > threshold]
    ties = candidates[values == threshold][: count - len(above)]
    return np.sort(np.concatenate([above, ties]))


def largest_mass(scores: np.ndarray, probabilities: np.ndarray, mass: float) -> np.ndarray:
    """Ascending indices of the shortest run of the highest `scores` whose `probabilities` sum to `mass` or more."""
    for candidates in nearest_to_best(scores):
        held = probabilities[candidates].sum(dtype=np.float64)
        if held >= mass - ROUNDING or len(candidates) == len(scores):
            break
    ordered = candidates[np.argsort(-scores[candidates], kind="stable")]
    cumulative = np.cumsum(probabilities[ordered], dtype=np.float64)
    needed = int(np.searchsorted(cumulative, mass - ROUNDING, side="left")) + 1
    return np.sort(ordered[:needed])


def nearest_to_best(scores: np.ndarray) -> Iterator[np.ndarray]:
    """Ascending indices of the scores at most `FIRST_SPAN` below the best, then twice that far, and at last of all.

    The vocabulary has up to 262,144 tokens and a handful of them matter: only those are ever sorted.
    """
    best, span = float(scores.max()), FIRST_SPAN
    while span < LAST_SPAN:
        yield np.flatnonzero(scores >= best - span)
        span *= 2
    yield np.arange(len(scores))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float32; their sum is exact to `ROUNDING`."""
    exponentials = np.exp(logits - logits.max())
    return exponentials / np.float32(exponentials.sum(dtype=np.float64))


def log_sum(logits: np.ndarray) -> float:
    """The logarithm of the sum of the exponentials."""
    top = logits.max()
    return float(top) + math.log(np.exp(logits - top).sum(dtype=np.float64))


def token_logprob(logits: np.ndarray, token: int, top: int) -> TokenLogprob:
    """The log-probability of `token`, and of the `top` likeliest tokens, likeliest first."""
    total = log_sum(logits)
    ids = largest(logits, top) if top else np.empty(0, dtype=np.int64)
    ordered = ids[np.argsort(-logits[ids], kind="stable")]
    return TokenLogprob(token, float(logits[token]) - total, tuple((int(i), float(logits[i]) - total) for i in ordered))


def not_finite() -> ArgosyError:
    """The error for logits that hold NaN or infinity only."""
    return ArgosyError(
        "the model's logits hold no finite number to choose from (`nan` or every token banned)",
        "lift the bans in logit_bias; if there are none, the weights or the library are broken: build them again",
    )
