"""Define what the engine needs of a model: forward passes over a store of sequences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from argosy.runtime_bindings.engine.batch import Batch
from argosy.runtime_bindings.engine.device import Logits
from argosy.runtime_bindings.engine.store import SequenceStore


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """The sizes that a runner was made for: of the vocabulary, of the longest sequence and the longest forward pass in
    tokens, and of the largest batch in sequences."""

    vocab_size: int
    context_window: int
    prefill_chunk: int
    max_batch: int


class Runner(Protocol):
    """One model and the store of its sequences."""

    @property
    def limits(self) -> RunnerLimits:
        """The sizes that it was made for."""
        ...

    @property
    def store(self) -> SequenceStore:
        """The sequences."""
        ...

    def forward(self, batch: Batch) -> Logits:
        """Append the tokens of `batch` to its sequences, and return the logits that its chunks want, in their order.

        The batch has at most `max_batch` chunks and, unless each is one token, `prefill_chunk` tokens. The logits are
        valid until the next call. If it raises, the sequences are as long as before.
        """
        ...
