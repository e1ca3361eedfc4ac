"""List the parameters of a network: what a component declares, and the slots of the library that follow from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from argosy.model_defs.components.norm import NormSpec

ParameterKind = Literal["linear", "embedding", "plain"]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a merged parameter that checkpoints store as a tensor of its own."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter of a network before its values are known.

    `linear` and `embedding` slots are (n, k) matrices that may be quantized, `plain` ones are stored as they are.
    `shard_axis` is the axis that may be divided among devices, within each of `pieces`; None: every device needs all of
    it. `heads` is the number of attention heads that the rows belong to, where that matters to a checkpoint's layout.
    """

    name: str
    kind: ParameterKind
    shape: tuple[int, ...]
    shard_axis: int | None = None
    pieces: tuple[Piece, ...] = ()
    heads: int = 0


@dataclass(frozen=True, slots=True)
class MatrixPart:
    """A matrix (n, k) that x (..., k) is multiplied with, and with `bias` a vector (n,) that is added."""

    shape: tuple[int, int]
    bias: bool = False
    shard_axis: int | None = None
    pieces: tuple[Piece, ...] = ()
    heads: int = 0
    kind: ParameterKind = "linear"

    def slots(self, name: str) -> Iterator[Slot]:
        """Yield the slots of a matrix called `name`."""
        yield Slot(name, self.kind, self.shape, self.shard_axis, self.pieces, self.heads)
        if self.bias:
            axis = 0 if self.shard_axis == 0 else None
            yield Slot(f"{name}.bias", "plain", self.shape[:1], axis, self.pieces, self.heads)


@dataclass(frozen=True, slots=True)
class NormPart:
    """The weight of a normalisation, and its bias if it has one. With two axes, every row is scaled by its own."""

    norm: NormSpec
    shape: tuple[int, ...]
    shard_axis: int | None = None

    def slots(self, name: str) -> Iterator[Slot]:
        """Yield the slots of a norm called `name`."""
        yield Slot(f"{name}.weight", "plain", self.shape, self.shard_axis)
        if self.norm.bias:
            yield Slot(f"{name}.bias", "plain", self.shape, self.shard_axis)


@dataclass(frozen=True, slots=True)
class TablePart:
    """A table (rows, k) that rows are read from, never quantized."""

    shape: tuple[int, int]

    def slots(self, name: str) -> Iterator[Slot]:
        """Yield the slot of a table called `name`."""
        yield Slot(f"{name}.weight", "plain", self.shape)


Part = MatrixPart | NormPart | TablePart
