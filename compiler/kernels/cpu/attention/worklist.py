"""Cut sequences of different lengths into a flat list of equal tiles that threads can share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import scratch

if TYPE_CHECKING:
    from argosy.compiler.kernels.cpu.attention.step import Indices


def tile_capacity(batch: tirx.Expr, tokens: tirx.Expr, rows_per_token: int, tile_rows: tirx.Expr | int) -> tirx.Expr:
    """Return the largest number of tiles that `batch` sequences of `tokens` tokens in all can have."""
    return tokens * rows_per_token // tile_rows + batch


class TileList:
    """The tiles of sequences of indptr[b + 1] - indptr[b] tokens, cut into tiles of `tile_rows` rows.

    `tokens` is indptr[batch]; a token has `rows_per_token` rows. The tiles of sequence b start at `first_tile[b]`;
    `count` is the number of all tiles. Buffers are large enough for `capacity` tiles of `most` sequences, expressions
    of the kernel's arguments, by default of `batch`.
    """

    def __init__(
        self,
        indptr: tirx.Buffer | Indices,
        batch: tirx.Expr,
        tokens: tirx.Expr,
        rows_per_token: int,
        tile_rows: tirx.Expr | int,
        capacity: tirx.Expr | None = None,
        most: tirx.Expr | None = None,
    ) -> None:
        self.capacity = tile_capacity(batch, tokens, rows_per_token, tile_rows) if capacity is None else capacity
        self.owner = scratch(self.capacity, "int32")
        self.first_row = scratch(self.capacity, "int32")
        self.first_tile = scratch((batch if most is None else most) + 1, "int32")
        self.count = self.first_tile[batch]
        T.buffer_store(self.first_tile, 0, [0])
        with T.serial(batch) as b:
            tiles = T.bind(((indptr[b + 1] - indptr[b]) * rows_per_token + tile_rows - 1) // tile_rows)
            T.buffer_store(self.first_tile, self.first_tile[b] + tiles, [b + 1])
            with T.serial(tiles) as t:
                T.buffer_store(self.owner, b, [self.first_tile[b] + t])
                T.buffer_store(self.first_row, t * tile_rows, [self.first_tile[b] + t])

    def bind(self, i: tirx.Expr) -> tuple[tirx.Var, tirx.Var]:
        """Bind the sequence of tile i, and the tile's first row in that sequence."""
        return T.bind(self.owner[i]), T.bind(self.first_row[i])

    def from_both_ends(self, i: tirx.Expr) -> tirx.Expr:
        """Return the i-th of 0, n - 1, 1, n - 2, ...: in causal attention, both halves of it are equal work."""
        return T.if_then_else(i % 2 == 0, i // 2, self.count - 1 - i // 2)
