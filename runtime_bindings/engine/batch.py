"""Describe the tokens of one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Positions = Literal["last", "all", "none"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens that continue one sequence: one to decode, several to verify, many to prefill.

    `logits` names the tokens after which logits are wanted.
    """

    sequence: int
    tokens: Sequence[int]
    logits: Positions = "last"


@dataclass(frozen=True, slots=True)
class Batch:
    """The chunks that one forward pass computes. None is empty, and no sequence occurs twice."""

    chunks: Sequence[Chunk]

    @property
    def sequences(self) -> list[int]:
        """The sequence of every chunk."""
        return [chunk.sequence for chunk in self.chunks]

    @property
    def counts(self) -> list[int]:
        """The number of tokens of every chunk."""
        return [len(chunk.tokens) for chunk in self.chunks]
