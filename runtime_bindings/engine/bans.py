"""Find the tokens that a request must not choose next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argosy.runtime_bindings.engine.params import SamplingParams


class Bans:
    """The bans of step 1 of `SamplingParams` for one request, whose tokens come one after the other."""

    def __init__(self, params: SamplingParams) -> None:
        words = params.bad_words_ids
        self._always = np.unique(np.array([*params.suppress_tokens, *(w[0] for w in words if len(w) == 1)], np.int64))
        self._first = np.unique(np.array([*self._always.tolist(), *params.begin_suppress_tokens], np.int64))
        self._words = [(tuple(word[:-1]), word[-1]) for word in words if len(word) > 1]
        self._ngram = params.no_repeat_ngram_size
        self._prompt: int | None = None  # how many tokens there were before the answer, until it has begun

    def ids(self, history: Sequence[int]) -> np.ndarray:
        """Return the distinct ids (int64) that may not follow `history`, the prompt and answer so far."""
        banned = self._first if self._is_first(len(history)) else self._always
        if not self._words and not self._ngram:
            return banned
        found = {last for start, last in self._words if tuple(history[len(history) - len(start) :]) == start}
        if self._ngram:
            found.update(_continuations(history, self._ngram - 1))
        return np.unique(np.concatenate([banned, np.fromiter(found, np.int64, len(found))])) if found else banned

    def _is_first(self, length: int) -> bool:
        if self._prompt is None:
            self._prompt = length
        elif length != self._prompt:
            self._prompt = -1  # a context that slides may have this length once more
        return length == self._prompt


def _continuations(history: Sequence[int], count: int) -> list[int]:
    """Return what has followed the last `count` tokens of `history` where they occurred before."""
    tokens = np.asarray(history, np.int64)
    if len(tokens) <= count:
        return []
    same = np.ones(len(tokens) - count, bool)
    for place in range(count):
        same &= tokens[place : len(tokens) - count + place] == tokens[len(tokens) - count + place]
    following: list[int] = tokens[count:][same].tolist()
    return following
