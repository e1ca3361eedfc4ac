"""Loop over the tiles of chunks of query tokens and over the blocks of keys that they see."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import block, scratch, when
from argosy.compiler.kernels.cpu.attention.tile import Tiles, copied_block, copy_page_into
from argosy.compiler.kernels.cpu.attention.worklist import TileList, tile_capacity
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

MANY = 8  # tiles that share a copied block
WORK_ITEMS = 24  # fewer tiles share a block if that leaves fewer work items than this


class ChunkTiles:
    """The rows of all chunks, in work items of some tiles each."""

    def __init__(
        self, shape: AttentionShape, q: tirx.Buffer, q_indptr: tirx.Buffer, batch: tirx.Expr, n: tirx.Expr
    ) -> None:
        self.shape = shape
        self.q = q
        self.q_indptr = q_indptr
        all_tiles = n * shape.group * shape.kv_heads // shape.rows
        many = T.max(1, T.min(MANY, all_tiles // WORK_ITEMS))
        self.many = T.bind(many)
        # The capacity sizes buffers of the root block, which may not depend on variables that are bound in it.
        capacity = tile_capacity(batch, n, shape.group, many * shape.rows)
        self.items = TileList(q_indptr, batch, n, shape.group, self.many * shape.rows, capacity)

    def attend(
        self,
        order: Callable[[tirx.Expr], tirx.Expr],
        scale: tirx.Expr,
        flat: tirx.Buffer,
        bounds: Callable[[tirx.Expr], Callable[[tirx.Expr], tuple[tirx.Expr, tirx.Expr]]],
        keys: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr],
        output: tirx.Buffer,
        lse: tirx.Buffer,
    ) -> None:
        """Compute the attention of every row.

        `order(i)` is the i-th work item. `bounds(b)(token)` are the first key slot that a token of sequence b sees and
        the one after the last; `keys(b, head, p)` is the place at which the keys of page p of the sequence start.
        """
        shape, rows, group = self.shape, self.shape.rows, self.shape.group
        with T.parallel(self.items.count * shape.kv_heads) as u, block("item"):
            head = T.bind(u % shape.kv_heads)
            b, first_row = self.items.bind(order(u // shape.kv_heads))
            row_count = T.bind((self.q_indptr[b + 1] - self.q_indptr[b]) * group)
            count = T.bind(T.min(self.many, (row_count - first_row + rows - 1) // rows))
            tiles = Tiles(shape, rows, shape.block, MANY)
            copied = copied_block(shape, shape.block)
            span = scratch(2, "int32")
            T.buffer_store(span, 2**31 - 1, [0])
            T.buffer_store(span, 0, [1])
            bounds_of = bounds(b)
            with T.serial(count) as tile:
                tiles.start(tile)
                with T.serial(rows) as r:
                    row = T.bind(T.min(first_row + tile * rows + r, row_count - 1))
                    token = T.bind(self.q_indptr[b] + row // group)
                    low, high = bounds_of(token)
                    tiles.load_query(tile, r, self.q, token, head * group + row % group, scale, low, high)
                T.buffer_store(span, T.min(span[0], tiles.first[tile]), [0])
                T.buffer_store(span, T.max(span[1], tiles.end[tile]), [1])
            size = shape.block * PAGE_SIZE
            with T.serial(span[0] // size, (span[1] + size - 1) // size) as i:
                slot = T.bind(i * size)
                with T.serial(T.min(shape.block, (span[1] - slot + PAGE_SIZE - 1) // PAGE_SIZE)) as j:
                    copy_page_into(copied, j, shape, flat, T.bind(keys(b, head, i * shape.block + j)))
                with T.serial(count) as tile, when(tiles.reaches(tile, slot)):
                    tiles.attend_between(tile, copied, slot)
            with T.serial(count) as tile, T.serial(rows) as r:
                row = T.bind(first_row + tile * rows + r)
                with when(row < row_count):
                    tiles.finish(tile, r, output, lse, self.q_indptr[b] + row // group, head * group + row % group)
