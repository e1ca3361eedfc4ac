"""Attend with tiles of query rows to blocks of pages: the inner part of every attention kernel.

A row is one query head of one token. The rows of a tile belong to one KV head, so a loaded key or value serves all of
them. For each block of pages: scores s = q k^T in the log2 domain, hidden ones replaced by NEVER, then the online
softmax of FlashAttention (Dao et al. 2022): m = running maximum, d = running sum of 2^(s - m), o = running sum of
2^(s - m) v. The result is o / d, and its weight is LSE = m + log2(d).
All arithmetic is in float32, whatever the pages hold.

The bits of a row's result depend on its query and on the keys and values that it sees, and on nothing else: not on the
other rows of its tile, the kernel, or the threads. Position p of a sequence is always summed in lane p % 16 of block
p // (16 * pages) of segment p // SEGMENT. A segment is summed by itself, from zero; segments are added to the totals in
order (`Totals`). Keys that only other rows see add zeros. Maxima are rounded up to whole numbers, so that m - m' is
whole and multiplying by 2^(m - m') is exact, whether or not the compiler fuses it with an addition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import scratch
from argosy.compiler.kernels.cpu.lanes import (
    constant,
    convert,
    elements_per_line,
    load,
    prefetch,
    reduce_max,
    reduce_sum,
    splat,
    store,
)
from argosy.compiler.kernels.cpu.vector import exp2, tanh
from argosy.compiler.kernels.kv.scores import LOG2_E, NEVER
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, SEGMENT_PAGES, AttentionShape

# The mask of the 16 keys of page j of a block that row r sees: (r, j) -> a vector of booleans.
Visible = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


@dataclass(frozen=True, slots=True)
class KeyBlock:
    """Up to `pages` pages of one KV head: the places at which keys and values of page j start in `buffer`.

    `coming_keys`, `coming_values`: the places in the block after this one. Data that is read from memory only once is
    prefetched a block ahead, a line at a time between the products: fetching a block at once would stall them.
    """

    buffer: tirx.Buffer
    pages: int
    keys: Callable[[tirx.Expr], tirx.Expr]
    values: Callable[[tirx.Expr], tirx.Expr]
    coming_keys: Callable[[tirx.Expr], tirx.Expr] | None = None
    coming_values: Callable[[tirx.Expr], tirx.Expr] | None = None


def copied_block(shape: AttentionShape, pages: int) -> KeyBlock:
    """Allocate a block of float32, which `copy_page_into` fills once for all the tiles that read it."""
    size = shape.side_elements
    return KeyBlock(scratch(2 * pages * size, "float32"), pages, lambda j: j * size, lambda j: (pages + j) * size)


def copy_page_into(block: KeyBlock, j: tirx.Expr, shape: AttentionShape, flat: tirx.Buffer, keys: tirx.Expr) -> None:
    """Copy the page whose keys of the KV head start at `flat[keys]` into page j of a block."""
    values = keys + shape.side_elements
    with T.serial(shape.side_elements // PAGE_SIZE) as x:
        for source, target in ((keys, block.keys(j)), (values, block.values(j))):
            store(block.buffer, convert(load(flat, source + x * PAGE_SIZE), "float32"), target + x * PAGE_SIZE)


class Totals:
    """The sums o and d and the maximum m of `rows` (at most 16) rows of each tile, over all segments so far."""

    def __init__(self, shape: AttentionShape, rows: int, many: int = 1) -> None:
        self.shape = shape
        self.rows = rows
        self.o = scratch((many, rows * shape.head_dim), "float32")
        self.d = scratch((many, rows * PAGE_SIZE), "float32")  # a sum for each lane
        self.m = scratch((many, PAGE_SIZE), "float32")
        self.m_new = scratch(PAGE_SIZE, "float32")
        self.keep = scratch(PAGE_SIZE, "float32")  # the powers of two by which the totals and the segment are scaled
        self.weight = scratch(PAGE_SIZE, "float32")

    def start(self, tile: tirx.Expr | int) -> None:
        """Reset the totals of tile number `tile`, which has then seen no key."""
        lanes = self.shape.lanes
        store(self.m, constant(NEVER), tile, 0)
        with T.serial(self.rows) as r:
            store(self.d, constant(0.0), tile, r * PAGE_SIZE)
        with T.serial(self.rows * self.shape.head_dim // lanes) as x:
            store(self.o, constant(0.0, lanes=lanes), tile, x * lanes, lanes=lanes)

    def rescale(self, tile: tirx.Expr | int, m: tirx.Expr) -> None:
        """Raise the maxima of a tile to those of a segment, `m`, and compute `keep` and `weight`."""
        store(self.m_new, T.max(load(self.m, tile, 0), m), 0)
        store(self.keep, exp2(load(self.m, tile, 0) - load(self.m_new, 0)), 0)
        store(self.weight, exp2(m - load(self.m_new, 0)), 0)
        store(self.m, load(self.m_new, 0), tile, 0)

    def add_d(self, tile: tirx.Expr | int, r: tirx.Expr | int, d: tirx.Expr) -> None:
        """Add the sums d of a segment, one for each lane, to those of row r."""
        kept = load(self.d, tile, r * PAGE_SIZE) * splat(self.keep[r])
        store(self.d, kept + d * splat(self.weight[r]), tile, r * PAGE_SIZE)

    def add_o(self, tile: tirx.Expr | int, r: tirx.Expr | int, column: tirx.Expr, o: tirx.Expr) -> None:
        """Add a vector of the sums o of a segment, from `column` on, to those of row r."""
        lanes, at = self.shape.lanes, r * self.shape.head_dim + column
        kept = load(self.o, tile, at, lanes=lanes) * splat(self.keep[r], lanes)
        store(self.o, kept + o * splat(self.weight[r], lanes), tile, at, lanes=lanes)

    def finish(
        self,
        tile: tirx.Expr | int,
        r: tirx.Expr | int,
        output: tirx.Buffer,
        lse: tirx.Buffer,
        token: tirx.Expr,
        head: tirx.Expr,
    ) -> None:
        """Write o / d and the LSE of row r. A row that saw no key gets a finite o and LSE NEVER: no weight."""
        d, lanes = self.shape.head_dim, self.shape.lanes
        weight = T.bind(T.max(reduce_sum(load(self.d, tile, r * PAGE_SIZE)), T.float32(1e-37)))
        T.buffer_store(lse, self.m[tile, r] + T.log2(weight), [token, head])
        with T.serial(d // lanes) as x:
            value = load(self.o, tile, r * d + x * lanes, lanes=lanes) * splat(T.float32(1) / weight, lanes)
            store(output, convert(value, str(output.dtype), lanes), token, head, x * lanes, lanes=lanes)


class Tiles:
    """The state of up to `many` tiles of `rows` (at most 16) query rows of one KV head, and the steps that update it.

    Create it inside a block; then call `start` for each tile and `load_query` for each row. For each segment: call
    `start_segment`, `attend` for each block of pages, `end_segment`. Then `totals.finish` for each row. With `at_once`,
    sums of a block that is a whole segment go from registers into the totals; without it, they are in `o`, `d` and `m`.
    Buffers named `sum_*` are indexed by constants, so LLVM keeps them in registers.
    """

    def __init__(
        self,
        shape: AttentionShape,
        rows: int,
        pages: int,
        totals: Totals,
        many: int = 1,
        at_once: bool = True,
    ) -> None:
        d = shape.head_dim
        self.shape = shape
        self.rows = rows
        self.pages = pages
        self.totals = totals
        self.at_once = at_once and pages == SEGMENT_PAGES
        # A few rows do not hide the latency of the products: they take several pages, or vectors of values, at a time.
        self.pages_at_once = _largest_divisor(pages, shape.rows // rows)
        self.vectors_at_once = _largest_divisor(d // shape.lanes, shape.rows // rows)
        self.q = scratch((many, rows * d), "float32")
        if not self.at_once:
            self.o = scratch((many, rows * d), "float32")
            self.d = scratch((many, rows * PAGE_SIZE), "float32")  # a sum for each lane
            self.m = scratch((many, PAGE_SIZE), "float32")
            self.shrink = scratch(PAGE_SIZE, "float32")  # 2^(m - m_new)
        self.m_new = scratch(PAGE_SIZE, "float32")
        self.p = scratch(rows * pages * PAGE_SIZE, "float32")  # scores, then probabilities
        self.sum_m = scratch(PAGE_SIZE, "float32")
        self.sum_d = scratch(PAGE_SIZE, "float32")
        self.sum_s = [scratch(rows * PAGE_SIZE, "float32") for _ in range(self.pages_at_once)]
        self.sum_o = [scratch(rows * shape.lanes, "float32") for _ in range(self.vectors_at_once)]
        # Row r of a tile sees the key slots low <= slot < high. Of a tile: the range in which any row sees a slot
        # (`first` to `end`), and the range in which every row sees all (`whole_first` to `whole_end`).
        self.low = scratch((many, rows), "int32")
        self.high = scratch((many, rows), "int32")
        self.first = scratch(many, "int32")
        self.whole_first = scratch(many, "int32")
        self.whole_end = scratch(many, "int32")
        self.end = scratch(many, "int32")

    def start(self, tile: tirx.Expr | int) -> None:
        """Reset tile number `tile`, which has then no query and has seen no key."""
        store(self.m_new, constant(NEVER), 0)
        self.totals.start(tile)
        T.buffer_store(self.first, 2**31 - 1, [tile])
        T.buffer_store(self.whole_first, 0, [tile])
        T.buffer_store(self.whole_end, 2**31 - 1, [tile])
        T.buffer_store(self.end, 0, [tile])

    def start_segment(self, tile: tirx.Expr | int) -> None:
        """Reset the sums of the segment."""
        if self.at_once:
            return
        lanes = self.shape.lanes
        store(self.m, constant(NEVER), tile, 0)
        with T.serial(self.rows) as r:
            store(self.d, constant(0.0), tile, r * PAGE_SIZE)
        with T.serial(self.rows * self.shape.head_dim // lanes) as x:
            store(self.o, constant(0.0, lanes=lanes), tile, x * lanes, lanes=lanes)

    def end_segment(self, tile: tirx.Expr | int) -> None:
        """Add the segment to the totals."""
        if self.at_once:
            return
        d, lanes = self.shape.head_dim, self.shape.lanes
        self.totals.rescale(tile, load(self.m, tile, 0))
        with T.serial(self.rows) as r:
            self.totals.add_d(tile, r, load(self.d, tile, r * PAGE_SIZE))
            with T.serial(d // lanes) as x:
                o = load(self.o, tile, r * d + x * lanes, lanes=lanes)
                self.totals.add_o(tile, r, x * lanes, o)

    def load_query(
        self,
        tile: tirx.Expr,
        r: tirx.Var,
        q: tirx.Buffer,
        token: tirx.Expr,
        head: tirx.Expr,
        scale: tirx.Expr,
        low: tirx.Expr | int,
        high: tirx.Expr,
    ) -> None:
        """Set row r to q[token, head], which sees the key slots from `low` to `high`."""
        d, lanes, softcap = self.shape.head_dim, self.shape.lanes, self.shape.softcap
        unit = T.bind(scale * T.float32(LOG2_E if softcap is None else 1 / softcap))
        with T.serial(d // lanes) as x:
            value = convert(load(q, token, head, x * lanes, lanes=lanes), "float32", lanes) * splat(unit, lanes)
            store(self.q, value, tile, r * d + x * lanes, lanes=lanes)
        T.buffer_store(self.low, low, [tile, r])
        T.buffer_store(self.high, high, [tile, r])
        T.buffer_store(self.first, T.min(self.first[tile], low), [tile])
        T.buffer_store(self.whole_first, T.max(self.whole_first[tile], low), [tile])
        T.buffer_store(self.whole_end, T.min(self.whole_end[tile], high), [tile])
        T.buffer_store(self.end, T.max(self.end[tile], high), [tile])

    def reaches(self, tile: tirx.Expr | int, slot: tirx.Expr, size: int | None = None) -> tirx.Expr:
        """Return whether some row of a tile sees one of `size` key slots from `slot` on, by default of a block."""
        size = self.pages * PAGE_SIZE if size is None else size
        return T.And(self.first[tile] < slot + size, self.end[tile] > slot)

    def attend(self, tile: tirx.Expr, block: KeyBlock, slot: tirx.Expr) -> None:
        """Attend to the keys that the rows of a tile see, by `low` and `high`, in the block from key slot `slot` on.

        Some row must see one, and the slots up to the last of them must be written.
        """

        def visible(r: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
            # One unsigned comparison checks both bounds.
            low = self.low[tile, r]
            offset = T.ramp(slot + j * PAGE_SIZE - low, 1, PAGE_SIZE)
            width = T.Cast("uint32", T.max(self.high[tile, r] - low, 0))
            return T.Cast(f"uint32x{PAGE_SIZE}", offset) < T.broadcast(width, PAGE_SIZE)

        size = self.pages * PAGE_SIZE
        used = T.bind(T.min(size, self.end[tile] - slot))
        whole = T.And(self.whole_first[tile] <= slot, self.whole_end[tile] >= slot + size)
        pages = T.bind((used + PAGE_SIZE - 1) // PAGE_SIZE)
        self._score(tile, block, pages)
        with T.If(whole):
            with T.Then():
                self._soften(tile, self.pages, None)
            with T.Else():
                self._soften(tile, pages, visible)
        self._weigh(tile, block, used)

    def _score(self, tile: tirx.Expr, block: KeyBlock, pages: tirx.Expr | int) -> None:
        """Compute p = q k^T, before the soft cap."""
        d, width = self.shape.head_dim, self.pages * PAGE_SIZE
        at_once = range(self.pages_at_once)
        with T.serial((pages + self.pages_at_once - 1) // self.pages_at_once) as group:
            pages_now = [group * self.pages_at_once + i for i in at_once]
            starts = [T.bind(block.keys(j)) for j in pages_now]
            coming = [T.bind(block.coming_keys(j)) for j in pages_now] if block.coming_keys else []
            for total in self.sum_s:
                with T.unroll(self.rows) as r:
                    store(total, constant(0.0), r * PAGE_SIZE)
            features = max(1, elements_per_line(block.buffer) // PAGE_SIZE)
            with T.serial(d // features) as line:
                for start in coming:
                    prefetch(block.buffer[start + line * features * PAGE_SIZE])
                for feature in range(features):
                    x = line * features + feature
                    keys = [T.bind(convert(load(block.buffer, start + x * PAGE_SIZE), "float32")) for start in starts]
                    with T.unroll(self.rows) as r:
                        query = T.bind(splat(self.q[tile, r * d + x]))
                        for key, total in zip(keys, self.sum_s, strict=True):
                            store(total, load(total, r * PAGE_SIZE) + query * key, r * PAGE_SIZE)
            for i, total in zip(at_once, self.sum_s, strict=True):
                with T.unroll(self.rows) as r:
                    column = (group * self.pages_at_once + i) * PAGE_SIZE
                    store(self.p, load(total, r * PAGE_SIZE), r * width + column)

    def _soften(self, tile: tirx.Expr, pages: tirx.Expr | int, visible: Visible | None) -> None:
        """Turn p into 2^(p - m) with the new maximum m, and update its running sum d."""
        softcap, width = self.shape.softcap, self.pages * PAGE_SIZE
        with T.serial(self.rows) as r:
            store(self.sum_m, constant(NEVER), 0)
            with T.serial(pages) as j:
                score = load(self.p, r * width + j * PAGE_SIZE)
                if softcap is not None:
                    score = tanh(score) * constant(softcap * LOG2_E)
                if visible is not None:
                    score = T.Select(visible(r, j), score, constant(NEVER))
                if softcap is not None or visible is not None:
                    score = T.bind(score)
                    store(self.p, score, r * width + j * PAGE_SIZE)
                store(self.sum_m, T.max(load(self.sum_m, 0), score), 0)
            highest = T.ceil(reduce_max(load(self.sum_m, 0)))
            T.buffer_store(self.m_new, highest if self.at_once else T.max(self.m[tile, r], highest), [r])
        if self.at_once:
            self.totals.rescale(tile, load(self.m_new, 0))
        else:
            store(self.shrink, exp2(load(self.m, tile, 0) - load(self.m_new, 0)), 0)
            store(self.m, load(self.m_new, 0), tile, 0)
        with T.serial(self.rows) as r:
            m = T.bind(splat(self.m_new[r]))
            before = constant(0.0) if self.at_once else load(self.d, tile, r * PAGE_SIZE) * splat(self.shrink[r])
            store(self.sum_d, before, 0)
            with T.serial(pages) as j:
                weight = T.bind(exp2(load(self.p, r * width + j * PAGE_SIZE) - m))
                store(self.p, weight, r * width + j * PAGE_SIZE)
                store(self.sum_d, load(self.sum_d, 0) + weight, 0)
            if self.at_once:
                self.totals.add_d(tile, r, load(self.sum_d, 0))
            else:
                store(self.d, load(self.sum_d, 0), tile, r * PAGE_SIZE)

    def _weigh(self, tile: tirx.Expr, block: KeyBlock, used: tirx.Expr) -> None:
        """Add p v to o * 2^(m - m_new), or to the totals. Values not yet written may be NaN, so they are left out."""
        d, lanes, width = self.shape.head_dim, self.shape.lanes, self.pages * PAGE_SIZE
        at_once = range(self.vectors_at_once)
        with T.serial(d // lanes // self.vectors_at_once) as group:
            columns = [T.bind((group * self.vectors_at_once + i) * lanes) for i in at_once]
            for column, total in zip(columns, self.sum_o, strict=True):
                with T.unroll(self.rows) as r:
                    before = constant(0.0, lanes=lanes)
                    if not self.at_once:
                        before = load(self.o, tile, r * d + column, lanes=lanes) * splat(self.shrink[r], lanes)
                    store(total, before, r * lanes, lanes=lanes)
            with T.serial((used + PAGE_SIZE - 1) // PAGE_SIZE) as j:
                start = T.bind(block.values(j))
                coming = T.bind(block.coming_values(j)) if block.coming_values else None
                with T.serial(T.min(PAGE_SIZE, used - j * PAGE_SIZE)) as w:
                    if coming is not None:
                        for first in range(0, at_once[-1] * lanes + 1, elements_per_line(block.buffer)):
                            prefetch(block.buffer[coming + w * d + columns[0] + first])
                    values = [
                        T.bind(convert(load(block.buffer, start + w * d + column, lanes=lanes), "float32", lanes))
                        for column in columns
                    ]
                    with T.unroll(self.rows) as r:
                        weight = T.bind(splat(self.p[r * width + j * PAGE_SIZE + w], lanes))
                        for value, total in zip(values, self.sum_o, strict=True):
                            sum_so_far = load(total, r * lanes, lanes=lanes)
                            store(total, sum_so_far + weight * value, r * lanes, lanes=lanes)
            for column, total in zip(columns, self.sum_o, strict=True):
                with T.unroll(self.rows) as r:
                    if self.at_once:
                        self.totals.add_o(tile, r, column, load(total, r * lanes, lanes=lanes))
                    else:
                        store(self.o, load(total, r * lanes, lanes=lanes), tile, r * d + column, lanes=lanes)


def _largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is at most `limit`, and at least 1."""
    return max(n for n in range(1, max(limit, 1) + 1) if number % n == 0)
