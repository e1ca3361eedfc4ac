"""Choose how many query rows and threads an attention kernel gives to a workgroup."""

from __future__ import annotations

from dataclasses import dataclass

from argosy.compiler.kernels.gpu.launch import ceildiv, workgroup_threads
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.kv.shape import AttentionShape

LANES = 64  # as many as a small head has features; more would idle when values are summed
ROWS = 8  # more rows read each key for more queries, and need more registers
DECODE_SLICES = 4


@dataclass(frozen=True, slots=True)
class TileSize:
    """`rows` query rows, `slices` slices of `lanes` threads; the threads of a slice have all features between them."""

    rows: int
    slices: int
    lanes: int

    @property
    def threads(self) -> int:
        """Threads of the workgroup; a block has as many keys."""
        return self.slices * self.lanes

    def parts(self, head_dim: int) -> int:
        """Return how many features of a row a thread has."""
        return ceildiv(head_dim, self.lanes)

    def shared_bytes(self, head_dim: int) -> int:
        """Return the shared memory of the workgroup: queries, scores and weights, and the sums of several slices."""
        elements = self.rows * head_dim + 2 * self.rows * self.threads
        if self.slices > 1:
            elements += self.slices * (self.lanes * self.parts(head_dim) + 1)
        return 4 * elements


def decode_tile(traits: GpuTraits, shape: AttentionShape) -> TileSize:
    """Return the tile for one token: its rows are the query heads of a KV head, in equal tiles."""
    rows = ceildiv(shape.group, ceildiv(shape.group, ROWS))
    return _fitting(traits, shape.head_dim, rows, DECODE_SLICES)


def chunk_tile(traits: GpuTraits, shape: AttentionShape) -> TileSize:
    """Return the tile for the tokens of a chunk: one slice, for its rows occupy enough threads."""
    return _fitting(traits, shape.head_dim, ROWS, 1)


def _fitting(traits: GpuTraits, head_dim: int, rows: int, slices: int) -> TileSize:
    """Return the largest tile up to the given one that fits: fewer slices before fewer rows."""
    lanes = workgroup_threads(traits, LANES)
    while True:
        size = TileSize(rows, slices, lanes)
        if traits.fits(size.threads, size.shared_bytes(head_dim)):
            return size
        if slices > 1:
            slices //= 2
        else:
            assert rows > 1, (traits, head_dim)
            rows = ceildiv(rows, 2)
