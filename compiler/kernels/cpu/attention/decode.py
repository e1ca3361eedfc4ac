"""Attend from one query token per sequence to all tokens of the sequence, in pages."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, block, flattened, parallel_for, scratch, when
from argosy.compiler.kernels.cpu.attention.step import SERIAL_ROWS, Step, hide
from argosy.compiler.kernels.cpu.attention.tile import KeyBlock, Tiles, Totals
from argosy.compiler.kernels.cpu.lanes import load, splat, store
from argosy.compiler.kernels.kv.arguments import DecodeArguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, SEGMENT, SEGMENT_PAGES, AttentionShape

WORK_ITEMS = 48  # a batch is cut along the segments of its sequences until there are this many work items


def decode(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Build the attention of the newest token of each sequence to its whole sequence, which includes that token.

    If there are few sequences, threads share the segments of each, so that a single one occupies all of them. The sums
    of segments are then added up at the end, in order; otherwise one thread adds them up as it goes.
    """
    with Kernel("attention_decode_sliding" if sliding else "attention_decode") as kernel:
        args = DecodeArguments(kernel, shape, sliding)
        step = Step(shape, args.cache, args.batch, args.batch)
        segments = _Segments(shape, args, sliding)
        with T.If(step.is_last):
            with T.Then():
                segments.sum(step)
                with when(segments.parts > 1):
                    segments.add_up()
            with T.Else():
                hide(args.lse, args.batch, shape.heads)
    return kernel.function


class _Segments:
    """The segments of all sequences that their newest tokens see, in `parts` for each sequence, and their sums.

    Those of sequence b are number `indptr[b]` up to `indptr[b + 1]`; the first is number `first[b]` of the sequence.
    """

    def __init__(self, shape: AttentionShape, args: DecodeArguments, sliding: bool) -> None:
        self.shape, self.args = shape, args
        batch, heads = args.batch, shape.heads
        self.indptr, self.first = scratch(batch + 1, "int32"), scratch(batch, "int32")
        self.low, self.high = scratch(batch, "int32"), scratch(batch, "int32")  # the positions that are seen
        T.buffer_store(self.indptr, 0, [0])
        with T.serial(batch) as b:
            high = T.bind(args.cache.q_positions[b] + 1)
            low = T.bind(T.max(high - shape.window, 0)) if sliding else T.int32(0)
            first = T.bind(low // SEGMENT)
            T.buffer_store(self.low, low, [b])
            T.buffer_store(self.high, high, [b])
            T.buffer_store(self.first, first, [b])
            T.buffer_store(self.indptr, self.indptr[b] + (high + SEGMENT - 1) // SEGMENT - first, [b + 1])
        self.rows = shape.decode_rows
        self.tiles = -(-shape.group // self.rows)
        items = shape.kv_heads * self.tiles
        most = T.min(WORK_ITEMS // (batch * items), self.indptr[batch] // batch)
        self.parts = T.bind(T.max(1, most))
        # Buffers of the root block may not depend on variables that are bound in it: hence a bound for the segments of
        # batches that are cut in parts. Only what is used of them is touched.
        cut = T.min(batch, max(1, WORK_ITEMS // items))
        count = cut * (args.cache.pages.shape[0] // SEGMENT_PAGES + 1)
        self.o = scratch((count, heads * shape.head_dim), "float32")
        self.d = scratch((count, heads * PAGE_SIZE), "float32")
        self.m = scratch((count, heads), "float32")

    def sum(self, step: Step) -> None:
        """Compute the sums of every segment; with one part for each sequence, also the results."""
        shape, batch, kv_heads, group = self.shape, self.args.batch, self.shape.kv_heads, self.shape.group
        rows, tiles, parts = self.rows, self.tiles, self.parts
        size = shape.block * PAGE_SIZE
        flat = flattened(self.args.cache.pages)
        with T.parallel(batch * kv_heads * tiles * parts) as u, block("part"):
            b = T.bind(u // (kv_heads * tiles * parts))
            head = T.bind(u // (tiles * parts) % kv_heads)
            first_row = T.bind(u // parts % tiles * rows)
            part = T.bind(u % parts)
            low, high = T.bind(self.low[b]), T.bind(self.high[b])
            totals = Totals(shape, rows)
            tile = Tiles(shape, rows, shape.block, totals=totals, at_once=False)
            tile.start(0)
            with T.serial(rows) as r:
                query_head = head * group + T.min(first_row + r, group - 1)
                tile.load_query(0, r, self.args.q, b, query_head, self.args.scale, low, high)
            last_page = T.bind((high - 1) // PAGE_SIZE)
            places = scratch(2 * shape.block, "int32")
            pages = KeyBlock(
                flat,
                shape.block,
                lambda j: places[j],
                lambda j: places[j] + shape.side_elements,
                lambda j: places[shape.block + j],
                lambda j: places[shape.block + j] + shape.side_elements,
            )
            count = T.bind(self.indptr[b + 1] - self.indptr[b])
            bounds = scratch(4, "int32")  # of loops: expressions there cost seconds of compile time, even if bound
            T.buffer_store(bounds, count * part // parts, [0])
            T.buffer_store(bounds, count * (part + 1) // parts, [1])
            with T.serial(bounds[0], bounds[1]) as i:
                segment = T.bind(self.first[b] + i)
                tile.start_segment(0)
                T.buffer_store(bounds, T.max(segment * (SEGMENT // size), low // size), [2])
                T.buffer_store(bounds, T.min((segment + 1) * (SEGMENT // size), (high + size - 1) // size), [3])
                with T.serial(bounds[2], bounds[3]) as group_of_pages:
                    with T.serial(2 * shape.block) as j:  # masked pages after the last are those of the last
                        page = T.bind(T.min(group_of_pages * shape.block + j, last_page))
                        T.buffer_store(places, step.keys(shape, b, head, page), [j])
                    tile.attend(0, pages, group_of_pages * size)
                with T.If(parts > 1):
                    with T.Then():
                        self._keep(tile, T.bind(self.indptr[b] + i), head * group + first_row, group - first_row)
                    with T.Else():
                        tile.end_segment(0)
            with T.serial(rows) as r, when(T.And(parts == 1, first_row + r < group)):
                totals.finish(0, r, self.args.output, self.args.lse, b, head * group + first_row + r)

    def _keep(self, tile: Tiles, segment: tirx.Expr, head: tirx.Expr, heads: tirx.Expr) -> None:
        """Store the sums of a segment for up to `heads` query heads from `head` on."""
        d, lanes = self.shape.head_dim, self.shape.lanes
        with T.serial(tile.rows) as r, when(r < heads):
            T.buffer_store(self.m, tile.m[0, r], [segment, head + r])
            store(self.d, load(tile.d, 0, r * PAGE_SIZE), segment, (head + r) * PAGE_SIZE)
            with T.serial(d // lanes) as x:
                o = load(tile.o, 0, r * d + x * lanes, lanes=lanes)
                store(self.o, o, segment, (head + r) * d + x * lanes, lanes=lanes)

    def add_up(self) -> None:
        """Add up the segments of every row, in order."""
        d, heads, lanes = self.shape.head_dim, self.shape.heads, self.shape.lanes

        def add_row(row: tirx.Var) -> None:
            with block("row"):
                b, head = T.bind(row // heads), T.bind(row % heads)
                totals = Totals(self.shape, 1)
                totals.start(0)
                with T.serial(self.indptr[b], self.indptr[b + 1]) as segment:
                    totals.rescale(0, splat(self.m[segment, head]))
                    totals.add_d(0, 0, load(self.d, segment, head * PAGE_SIZE))
                    with T.serial(d // lanes) as x:
                        o = load(self.o, segment, head * d + x * lanes, lanes=lanes)
                        totals.add_o(0, 0, x * lanes, o)
                totals.finish(0, 0, self.args.output, self.args.lse, b, head)

        parallel_for(self.args.batch * heads, SERIAL_ROWS, add_row)
