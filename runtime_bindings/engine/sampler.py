"""Sample one token per row of logits, using each request's parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from argosy.runtime_bindings.engine.device import Logits
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.penalties import Penalties
from argosy.runtime_bindings.engine.selection import LOWEST, ROUNDING, SIGN_BIT, indices, largest, largest_mass, leaders
from argosy.runtime_bindings.engine.softmax import Weights, block_sums, draw, exponentials, reweigh, sum_of, weigh
from argosy.runtime_bindings.engine.workspace import Workspace
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


class TokenSampler(Protocol):
    """Chooses tokens, on the host or on the device that holds the logits."""

    def begin(self, params: SamplingParams) -> Any:
        """Return what the sampler keeps of one request, such as its random generator."""
        ...

    def sample(
        self, logits: Logits, requests: Sequence[Any], histories: Sequence[Sequence[int]]
    ) -> Sequence[Sample | ArgosyError]:
        """Choose a token for each row of `logits`.

        Row i belongs to what `begin` returned as `requests[i]`, and to the prompt and answer so far in `histories[i]`.
        A row that cannot be sampled yields its error and spares the others.
        """
        ...


class HostSampler:
    """A `TokenSampler` in numpy, one row after the other."""

    def __init__(self) -> None:
        self._space = Workspace()

    def begin(self, params: SamplingParams) -> Sampler:
        return Sampler(params, self._space)

    def sample(
        self, logits: Logits, requests: Sequence[Sampler], histories: Sequence[Sequence[int]]
    ) -> list[Sample | ArgosyError]:
        return sample_rows(requests, logits.numpy(), histories)


class Sampler:
    """Chooses tokens for one request: its parameters and its own random generator (PCG64), so that the same seed gives
    the same draws whatever else is in the batch.

    Samplers that take turns may share a `space`.
    """

    def __init__(self, params: SamplingParams, space: Workspace | None = None) -> None:
        self.params = params
        self._penalties = Penalties(params)
        self._space = space or Workspace()
        self._random = np.random.Generator(np.random.PCG64(params.seed))

    def sample(self, logits: np.ndarray, history: Sequence[int]) -> Sample:
        """Choose a token by `logits` (vocab,) float32, which are not changed, and the `history`: prompt and answer."""
        params, space = self.params, self._space
        adjusted, changed = self._penalties.apply(logits, history, space)
        weights = weigh(logits, finite_best(logits), space) if params.logprobs else None
        log_sum = weights.log_sum if weights else None
        if params.temperature == 0.0:
            token = int(np.argmax(adjusted))
            if not math.isfinite(adjusted[token]):
                raise not_finite()
        else:
            best = weights.base if weights and changed is None else finite_best(adjusted)
            if weights and changed is not None:
                weights = None if params.top_k else reweigh(weights, adjusted, best, changed, space)
            kept = Kept(adjusted, best, weights=weights)
            token = choose(narrow(kept, params, space), params.temperature, self._random.random(), space)
        return Sample(token, token_logprob(logits, token, params.top_logprobs, log_sum) if params.logprobs else None)


def sample_rows(
    samplers: Sequence[Sampler], logits: np.ndarray, histories: Sequence[Sequence[int]]
) -> list[Sample | ArgosyError]:
    """Choose a token for each row of `logits` (b, vocab). A row that cannot be sampled yields its error and spares the
    others."""
    chosen: list[Sample | ArgosyError] = []
    for sampler, row, history in zip(samplers, logits, histories, strict=True):
        try:
            chosen.append(sampler.sample(row, history))
        except ArgosyError as error:
            chosen.append(error)
    return chosen


@dataclass(slots=True)
class Kept:
    """The tokens that earlier steps have left.

    `logits` are those of `ids` (ascending; None: all), `best` is the largest, `weights` are those of `logits` if known.
    With a `mask`, only the tokens for which it is true are left, `best` among them.
    """

    logits: np.ndarray
    best: np.float32
    ids: np.ndarray | None = None
    mask: np.ndarray | None = None
    weights: Weights | None = None

    def keep(self, choice: np.ndarray) -> Kept:
        """Return the tokens that are left after a `choice`: indices, or a mask, which is overwritten."""
        if choice.dtype == np.bool_:
            if self.mask is not None:
                choice &= self.mask
            if np.count_nonzero(choice) * 8 > len(choice):
                return Kept(self.logits, self.best, self.ids, choice, self.weights)
            choice = indices(choice)
        logits = self.logits[choice]
        return Kept(logits, logits.max(), choice if self.ids is None else self.ids[choice])

    def compact(self) -> Kept:
        """Return the same tokens without a mask."""
        return self if self.mask is None else Kept(self.logits, self.best, self.ids).keep(indices(self.mask))

    def weigh(self, space: Workspace) -> Weights:
        """Return the weights of `logits`, computed at most once."""
        if self.weights is None:
            self.weights = weigh(self.logits, self.best, space)
        return self.weights


def narrow(kept: Kept, params: SamplingParams, space: Workspace) -> Kept:
    """Apply steps 3 to 6 to `kept`, which has no mask."""
    if 0 < params.top_k < len(kept.logits):
        kept = kept.keep(largest(kept.logits, params.top_k, space))
    if params.typical_p < 1.0:
        kept = kept.compact()
        scores = _typicality(kept.logits, kept.weigh(space), space)
        kept = kept.keep(_heaviest(scores, kept.weigh(space), params.typical_p, space))
        if kept.mask is not None and not kept.mask[np.argmax(kept.logits)]:
            kept = kept.compact()
    if params.top_p < 1.0:
        kept = kept.compact()
        kept = kept.keep(_heaviest(kept.logits, kept.weigh(space), params.top_p, space))
    if params.min_p > 0.0:
        kept = kept.keep(kept.logits >= kept.best + math.log(params.min_p))
    return kept


def _typicality(logits: np.ndarray, weights: Weights, space: Workspace) -> np.ndarray:
    """Return minus the distance of surprise from entropy, for every token: that of its logit from the mean logit."""
    mean = sum_of(block_sums(weights.values, logits)) / weights.total
    if not math.isfinite(mean):  # banned tokens: zero times infinity
        mean = sum_of(block_sums(weights.values, np.clip(logits, LOWEST, -LOWEST))) / weights.total
    scores = np.subtract(logits, np.float32(mean), out=space.floats("scores", len(logits)))
    bits = scores.view(np.uint32)
    np.bitwise_or(bits, SIGN_BIT, out=bits)
    return scores


def _heaviest(scores: np.ndarray, weights: Weights, share: float, space: Workspace) -> np.ndarray:
    """Choose the highest `scores` that hold `share` of the probability."""
    mass = (share - ROUNDING) * weights.total
    return largest_mass(scores, weights.values, weights.total, mass, space, weights.peak)


def choose(kept: Kept, temperature: float, share: float, space: Workspace) -> int:
    """Apply step 7: return the token at which the running sum of the probabilities passes `share` (0 to 1)."""
    size, sums = len(kept.logits), None
    if temperature == 1.0:
        known = kept.weigh(space)
        values, sums = known.values, known.sums
    else:
        values = exponentials(kept.logits, kept.best, temperature, out=space.floats("tempered", size))
    place = draw(values, share, sums, kept.mask)
    return place if kept.ids is None else int(kept.ids[place])


def token_logprob(logits: np.ndarray, token: int, top: int, log_sum: float | None = None) -> TokenLogprob:
    """Return the log-probability of `token`, and those of the `top` likeliest tokens, likeliest first."""
    if log_sum is None:
        log_sum = weigh(logits, finite_best(logits), Workspace()).log_sum
    best = tuple((int(i), float(logits[i]) - log_sum) for i in (leaders(logits, top) if top else ()))
    return TokenLogprob(token, float(logits[token]) - log_sum, best)


def finite_best(logits: np.ndarray) -> np.float32:
    """Return the largest of `logits`. Raises ArgosyError if it is not finite."""
    best = logits.max()
    if not math.isfinite(best):
        raise not_finite()
    return best


def not_finite() -> ArgosyError:
    """Return the error for logits that hold NaN or infinity only."""
    return ArgosyError(
        "the model's logits hold no finite number to choose from (`nan` or every token banned)",
        "lift the bans (logit_bias, suppress_tokens, bad_words_ids, no_repeat_ngram_size); if there are none, the "
        "weights or the library are broken: build them again",
    )
