"""Loop over the tiles of chunks of query tokens and over the blocks of keys that they see."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import block, scratch, when
from argosy.compiler.kernels.cpu.attention.step import Indices
from argosy.compiler.kernels.cpu.attention.tile import KeyBlock, Tiles, Totals, copied_block, copy_page_into
from argosy.compiler.kernels.cpu.attention.worklist import TileList, tile_capacity
from argosy.compiler.kernels.kv.scores import NEVER
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, SEGMENT, SEGMENT_PAGES, AttentionShape

MANY = 8  # tiles that share a copied block
WORK_ITEMS = 24  # fewer tiles share a block if that leaves fewer work items than this


class ChunkTiles:
    """The rows of the chunks of `batch` sequences, n tokens in all, in work items of some tiles each.

    The sequences are at most `most`, an expression of the kernel's arguments.
    """

    def __init__(
        self,
        shape: AttentionShape,
        q: tirx.Buffer,
        q_indptr: tirx.Buffer | Indices,
        batch: tirx.Expr,
        n: tirx.Expr,
        most: tirx.Expr,
    ) -> None:
        self.shape = shape
        self.q = q
        self.q_indptr = q_indptr
        all_tiles = n * shape.group * shape.kv_heads // shape.rows
        many = T.max(1, T.min(MANY, all_tiles // WORK_ITEMS))
        self.many = T.bind(many)
        # The capacity sizes buffers of the root block, which may not depend on variables that are bound in it.
        capacity = tile_capacity(most, n, shape.group, many * shape.rows)
        self.items = TileList(q_indptr, batch, n, shape.group, self.many * shape.rows, capacity, most)

    def attend(
        self,
        scale: tirx.Expr,
        flat: tirx.Buffer,
        active: Callable[[tirx.Expr], tirx.Expr],
        bounds: Callable[[tirx.Expr], tuple[tirx.Expr, tirx.Expr]],
        keys: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr],
        output: tirx.Buffer,
        lse: tirx.Buffer,
    ) -> None:
        """Compute the attention of every row of the sequences b that are `active(b)`; hide the others.

        `bounds(position)` are the first position that a token sees and the one after the last, where a position counts
        from the first token of the sequence; `keys(b, head, p)` is the place at which the keys of its page p start.
        """
        shape, rows, group = self.shape, self.shape.rows, self.shape.group
        with T.parallel(self.items.count * shape.kv_heads) as u, block("item"):
            head = T.bind(u % shape.kv_heads)
            b, first_row = self.items.bind(self.items.from_both_ends(u // shape.kv_heads))
            row_count = T.bind((self.q_indptr[b + 1] - self.q_indptr[b]) * group)
            count = T.bind(T.min(self.many, (row_count - first_row + rows - 1) // rows))

            def place(tile: tirx.Expr, r: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
                """Return the number of a row in its sequence, its token and its query head."""
                row = T.bind(first_row + tile * rows + r)
                return row, T.bind(self.q_indptr[b] + T.min(row, row_count - 1) // group), head * group + row % group

            with T.If(active(b)):
                with T.Then():
                    tiles = Tiles(shape, rows, shape.block, Totals(shape, rows, MANY), MANY)
                    span = scratch(2, "int32")
                    T.buffer_store(span, 2**31 - 1, [0])
                    T.buffer_store(span, 0, [1])
                    with T.serial(count) as tile:
                        tiles.start(tile)
                        with T.serial(rows) as r:
                            _, token, query_head = place(tile, r)
                            low, high = bounds(token)
                            tiles.load_query(tile, r, self.q, token, query_head, scale, low, high)
                        T.buffer_store(span, T.min(span[0], tiles.first[tile]), [0])
                        T.buffer_store(span, T.max(span[1], tiles.end[tile]), [1])

                    def copy_page(copied: KeyBlock, p: tirx.Expr, j: tirx.Expr) -> None:
                        copy_page_into(copied, j, shape, flat, T.bind(keys(b, head, p)))

                    attend_blocks(tiles, count, span[0], span[1], copy_page)
                    with T.serial(count) as tile, T.serial(rows) as r:
                        row, token, query_head = place(tile, r)
                        with when(row < row_count):
                            tiles.totals.finish(tile, r, output, lse, token, query_head)
                with T.Else(), T.serial(count) as tile, T.serial(rows) as r:
                    row, token, query_head = place(tile, r)
                    with when(row < row_count):
                        T.buffer_store(lse, T.float32(NEVER), [token, query_head])


def attend_blocks(
    tiles: Tiles,
    count: tirx.Expr | int,
    first: tirx.Expr,
    end: tirx.Expr,
    copy_page: Callable[[KeyBlock, tirx.Expr, tirx.Expr], None],
) -> None:
    """Attend from the first `count` tiles to all blocks with positions from `first` up to `end`, in segments.

    `copy_page(block, p, j)` copies page p of the sequence into page j of a block.
    """
    shape, size = tiles.shape, tiles.shape.block * PAGE_SIZE
    blocks = SEGMENT_PAGES // shape.block
    copied = copied_block(shape, shape.block)
    bounds = scratch(4, "int32")  # of loops: expressions there cost seconds of compile time, even if they are bound
    T.buffer_store(bounds, first // SEGMENT, [0])
    T.buffer_store(bounds, (end + SEGMENT - 1) // SEGMENT, [1])
    with T.serial(bounds[0], bounds[1]) as segment:
        if not tiles.at_once:
            with T.serial(count) as tile:
                tiles.start_segment(tile)
        T.buffer_store(bounds, T.max(segment * blocks, first // size), [2])
        T.buffer_store(bounds, T.min((segment + 1) * blocks, (end + size - 1) // size), [3])
        with T.serial(bounds[2], bounds[3]) as i:
            slot = T.bind(i * size)
            with T.serial(T.min(shape.block, (end - slot + PAGE_SIZE - 1) // PAGE_SIZE)) as j:
                copy_page(copied, i * shape.block + j, j)
            with T.serial(count) as tile, when(tiles.reaches(tile, slot)):
                tiles.attend(tile, copied, slot)
        if not tiles.at_once:
            with T.serial(count) as tile, when(tiles.reaches(tile, segment * SEGMENT, SEGMENT)):
                tiles.end_segment(tile)
