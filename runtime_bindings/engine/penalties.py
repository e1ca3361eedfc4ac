"""Apply logit biases and repetition penalties to a row of logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argosy.runtime_bindings.engine.bans import Bans
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.workspace import Workspace

HIGHEST = np.float32(1e30)  # of an adjusted logit, however extreme the settings: its difference to another is finite
MANY = 64  # with more new tokens, recounting everything in numpy is faster than counting them one by one


class Penalties:
    """Steps 1 and 2 of `SamplingParams` for one request, whose tokens are counted as they come."""

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        bias = params.logit_bias
        self._biased = np.fromiter(bias.keys(), dtype=np.int64, count=len(bias))
        with np.errstate(over="ignore"):  # a bias below all float32 bans its token
            self._bias = np.fromiter(bias.values(), dtype=np.float64, count=len(bias)).astype(np.float32)
        self._bans = Bans(params)
        self._seen = Seen(params.repeat_last_n)

    def apply(
        self, logits: np.ndarray, history: Sequence[int], space: Workspace
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the adjusted logits (vocab,) in memory of `space`, and the ids of those that may differ.

        If the steps do nothing, return `logits` itself and None.
        """
        params = self._params
        banned = self._bans.ids(history)
        if not len(self._biased) and not len(banned) and not params.penalises:
            return logits, None
        adjusted, changed = space.floats("adjusted", len(logits)), np.concatenate([self._biased, banned])
        np.copyto(adjusted, logits)
        adjusted[self._biased] = np.minimum(adjusted[self._biased] + self._bias, HIGHEST)
        adjusted[banned] = -np.inf
        if params.penalises:
            ids, counts = self._seen.counts(history)
            values = adjusted[ids]
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                values = np.where(values > 0, values / params.repetition_penalty, values * params.repetition_penalty)
            values = np.minimum(values, HIGHEST)
            adjusted[ids] = values - counts * params.frequency_penalty - params.presence_penalty
            changed = np.concatenate([changed, ids])
        return adjusted, changed


class Seen:
    """Counts of the tokens among the last `last_n` of a history (-1: all).

    From one call to the next a history usually grows by a token. Then only that token is counted, and the one that
    leaves the window; comparing the rest with what was counted takes a nanosecond a token. Any other history is counted
    anew.
    """

    def __init__(self, last_n: int) -> None:
        self._last_n = last_n
        self._length = 0  # of the history
        self._window: list[int] = []
        self._recount([], 0)

    def counts(self, history: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the distinct ids, in no order, and their counts; both int64, and valid until the next call."""
        tokens = history if isinstance(history, list) else list(history)
        window = tokens if self._last_n < 0 else tokens[max(0, len(tokens) - self._last_n) :]
        if not self._advance(window, len(tokens)):
            self._recount(list(window), len(tokens))
        return self._ids[: len(self._places)], self._counts[: len(self._places)]

    def _advance(self, window: list[int], length: int) -> bool:
        """Count the new tokens of `window`, the end of a history of `length`; False if it does not continue the last
        one."""
        new = length - self._length
        if not 0 <= new <= min(MANY, len(window)):
            return False
        arrived = window[len(window) - new :]
        gone = len(self._window) + new - len(window)
        leaving = self._window[:gone]
        self._window += arrived
        del self._window[:gone]
        if self._window != window:
            return False
        self._length = length
        for token in arrived:
            self._count(token, 1)
        for token in leaving:
            self._count(token, -1)
        return True

    def _recount(self, window: list[int], length: int) -> None:
        self._window, self._length = window, length
        ids, counts = np.unique(np.asarray(window, dtype=np.int64), return_counts=True)
        room = np.zeros(len(ids) + MANY, np.int64)
        self._ids, self._counts = np.concatenate([ids, room]), np.concatenate([counts, room])
        self._places = {token: place for place, token in enumerate(ids.tolist())}

    def _count(self, token: int, change: int) -> None:
        """Add `change` to the count of `token`; a token whose count falls to zero gives its place to the last one."""
        place = self._places.get(token)
        if place is None:
            place = self._places[token] = len(self._places)
            if place == len(self._ids):
                self._ids, self._counts = np.resize(self._ids, 2 * place), np.resize(self._counts, 2 * place)
            self._ids[place], self._counts[place] = token, 0
        self._counts[place] += change
        if not self._counts[place]:
            last = len(self._places) - 1
            moved = int(self._ids[last])
            self._ids[place], self._counts[place], self._places[moved] = moved, self._counts[last], place
            del self._places[token]
