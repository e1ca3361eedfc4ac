"""Token ids of several sequences go in, each with its id; the logits that follow each of them come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """What a runner was made for. All but `vocab_size` count tokens or sequences."""

    vocab_size: int
    context_window: int
    prefill_chunk: int
    max_batch: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that continue a sequence in one prefill."""

    sequence: int
    tokens: Sequence[int]


class SequenceStore(Protocol):
    """Sequences and the pages that hold their keys and values. Sequence ids are the caller's, from 0."""

    def add(self, sequence: int) -> None:
        """A new, empty sequence."""

    def fork(self, parent: int, child: int, length: int) -> None:
        """A new sequence that shares the first `length` tokens of `parent`."""

    def remove(self, sequence: int) -> None:
        """Forgets a sequence and frees its pages."""

    def pop(self, sequence: int, count: int) -> None:
        """Forgets the last `count` tokens."""

    def length(self, sequence: int) -> int:
        """Tokens of a sequence that the store holds."""

    def fits(self, growth: Sequence[tuple[int, int]]) -> bool:
        """Whether every (sequence, count) can grow by `count` tokens, all of them together."""


class Runner(Protocol):
    """One model with its store. `prefill` and `decode` append what they are given to the sequences; where one of them
    raises, the sequences are as long as before."""

    limits: RunnerLimits
    store: SequenceStore

    def prefill(self, chunks: Sequence[Chunk]) -> np.ndarray:
        """Logits after the last token of each chunk: (b, vocab) float32, valid until the next call.

        All chunks together hold at most `limits.prefill_chunk` tokens, none is empty, no sequence occurs twice."""

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
        """Logits after one more token of each sequence: (b, vocab) float32, valid until the next call."""
