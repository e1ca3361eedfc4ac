"""The inside of every attention kernel: a tile of query rows and pages of keys go in, attention output and LSE come out.

A row is one query head of one token. The rows of a tile belong to one KV head, so a loaded key or value serves all of
them. For each page (16 tokens): scores s = q k^T in the log2 domain, hidden ones replaced by NEVER, then the online
softmax of FlashAttention (Dao et al. 2022): m = running maximum, d = running sum of 2^(s - m), o = running sum of
2^(s - m) v. The result is o / d, and its weight is LSE = m + log2(d), which the cache's merge kernel expects.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx
from tvm.script import tirx as T

from argosy.compiler.kernels.attention.kernel import scratch
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.vector import exp2, largest, load, splat, store, tanh, total

NEVER = -1e30  # a hidden score; also the LSE of a row that sees no key at all
LOG2_E = math.log2(math.e)


class Tile:
    """The state of one tile of `rows` (at most 16) query rows of one KV head, and the steps that update it.

    Created inside a block; then `load_query` for each row, `attend` for each page, and `finish` for each row. Row r of a
    buffer starts at r times its row length. The buffers named `sum_*` are addressed with constants only, so LLVM keeps
    them in registers.
    """

    def __init__(self, shape: AttentionShape, rows: int) -> None:
        d = shape.head_dim
        self.shape = shape
        self.rows = rows
        self.q = scratch(d * rows, "float32")  # (d, rows): the rows of one feature are adjacent
        self.p = scratch(rows * PAGE, "float32")  # scores, then probabilities
        self.m = scratch(PAGE, "float32")
        self.m_new = scratch(PAGE, "float32")
        self.shrink = scratch(PAGE, "float32")  # 2^(m - m_new)
        self.d = scratch(rows * PAGE, "float32")  # a sum for each lane
        self.o = scratch(rows * d, "float32")
        self.sum_s = scratch(rows * PAGE, "float32")
        self.sum_o = scratch(rows * shape.lanes, "float32")
        # Row r sees the key slots low[r] <= slot < high[r]; `span` is their union over the tile.
        self.low = scratch(rows, "int32")
        self.high = scratch(rows, "int32")
        self.span = scratch(2, "int32")
        store(self.m, 0, splat(NEVER, PAGE), PAGE)
        with T.serial(rows) as r:
            store(self.d, r * PAGE, splat(0.0, PAGE), PAGE)
        with T.serial(rows * d // shape.lanes) as x:
            store(self.o, x * shape.lanes, splat(0.0, shape.lanes), shape.lanes)

    def load_query(
        self, r: tirx.Var, q: tirx.Buffer, token: tirx.Expr, head: tirx.Expr, low: tirx.Expr | int, high: tirx.Expr
    ) -> None:
        """Row r is q[token, head], and sees the key slots from `low` to `high`. To be called in a loop over r from 0."""
        with T.serial(self.shape.head_dim) as x:
            T.buffer_store(self.q, T.Cast("float32", q[token, head, x]), [x * self.rows + r])
        T.buffer_store(self.low, low, [r])
        T.buffer_store(self.high, high, [r])
        T.buffer_store(self.span, T.if_then_else(r == 0, low, T.min(self.span[0], low)), [0])
        T.buffer_store(self.span, T.if_then_else(r == 0, high, T.max(self.span[1], high)), [1])

    def between(self, first_slot: tirx.Expr) -> Callable[[tirx.Var], tirx.Expr]:
        """Which keys of the page that starts at `first_slot` row r sees, by `low` and `high`."""

        def visible(r: tirx.Var) -> tirx.Expr:
            # One unsigned comparison does for both bounds.
            offset = T.ramp(first_slot, 1, PAGE) - T.broadcast(self.low[r], PAGE)
            width = T.Cast("uint32", T.max(self.high[r] - self.low[r], 0))
            return T.Cast(f"uint32x{PAGE}", offset) < T.broadcast(width, PAGE)

        return visible

    def attend(
        self,
        flat: tirx.Buffer,
        keys: tirx.Expr,
        used: tirx.Expr,
        scale: tirx.Expr,
        visible: Callable[[tirx.Var], tirx.Expr],
    ) -> None:
        """Takes in one page: the keys of the KV head start at `flat[keys]`, and `used` of its tokens have been written."""
        self._score(flat, keys, scale)
        self._soften(visible)
        self._weigh(flat, keys + self.shape.kv_heads * self.shape.side_elements, used)

    def _score(self, flat: tirx.Buffer, keys: tirx.Expr, scale: tirx.Expr) -> None:
        """p = q k^T * scale, still to be capped."""
        with T.unroll(self.rows) as r:
            store(self.sum_s, r * PAGE, splat(0.0, PAGE), PAGE)
        with T.serial(self.shape.head_dim) as x, T.unroll(self.rows) as r:
            product = splat(self.q[x * self.rows + r], PAGE) * load(flat, keys + x * PAGE, PAGE)
            store(self.sum_s, r * PAGE, load(self.sum_s, r * PAGE, PAGE) + product, PAGE)
        unit = LOG2_E if self.shape.softcap is None else 1 / self.shape.softcap
        with T.unroll(self.rows) as r:
            store(self.p, r * PAGE, load(self.sum_s, r * PAGE, PAGE) * splat(scale * T.float32(unit), PAGE), PAGE)

    def _soften(self, visible: Callable[[tirx.Var], tirx.Expr]) -> None:
        """p becomes 2^(p - m) with the new maximum m, and d its running sum."""
        softcap = self.shape.softcap
        store(self.m_new, 0, load(self.m, 0, PAGE), PAGE)
        with T.serial(self.rows) as r:
            score = load(self.p, r * PAGE, PAGE)
            if softcap is not None:
                score = tanh(score, PAGE) * splat(softcap * LOG2_E, PAGE)
            store(self.p, r * PAGE, T.Select(visible(r), score, splat(NEVER, PAGE)), PAGE)
            T.buffer_store(self.m_new, T.max(self.m[r], largest(load(self.p, r * PAGE, PAGE))), [r])
        store(self.m, 0, load(self.m, 0, PAGE) - load(self.m_new, 0, PAGE), PAGE)
        store(self.shrink, 0, exp2(load(self.m, 0, PAGE), PAGE), PAGE)
        store(self.m, 0, load(self.m_new, 0, PAGE), PAGE)
        with T.serial(self.rows) as r:
            store(self.p, r * PAGE, load(self.p, r * PAGE, PAGE) - splat(self.m[r], PAGE), PAGE)
            store(self.p, r * PAGE, exp2(load(self.p, r * PAGE, PAGE), PAGE), PAGE)
            shrunk = load(self.d, r * PAGE, PAGE) * splat(self.shrink[r], PAGE)
            store(self.d, r * PAGE, shrunk + load(self.p, r * PAGE, PAGE), PAGE)

    def _weigh(self, flat: tirx.Buffer, values: tirx.Expr, used: tirx.Expr) -> None:
        """o = o * 2^(m - m_new) + p v. Values not yet written may be anything, even NaN, so they are left out."""
        d, lanes = self.shape.head_dim, self.shape.lanes
        with T.serial(d // lanes) as x:
            with T.unroll(self.rows) as r:
                shrunk = load(self.o, r * d + x * lanes, lanes) * splat(self.shrink[r], lanes)
                store(self.sum_o, r * lanes, shrunk, lanes)
            with T.serial(used) as w, T.unroll(self.rows) as r:
                product = splat(self.p[r * PAGE + w], lanes) * load(flat, values + w * d + x * lanes, lanes)
                store(self.sum_o, r * lanes, load(self.sum_o, r * lanes, lanes) + product, lanes)
            with T.unroll(self.rows) as r:
                store(self.o, r * d + x * lanes, load(self.sum_o, r * lanes, lanes), lanes)

    def finish(
        self, r: tirx.Var, output: tirx.Buffer, lse: tirx.Buffer, token: tirx.Expr, head: tirx.Expr
    ) -> None:
        """Writes o / d and the LSE of row r. A row that saw no key gets a finite o and LSE NEVER: weight 0 in a merge."""
        d, lanes = self.shape.head_dim, self.shape.lanes
        T.buffer_store(self.m_new, T.max(total(load(self.d, r * PAGE, PAGE)), T.float32(1e-37)), [r])
        T.buffer_store(lse, self.m[r] + T.log2(self.m_new[r]), [token, head])
        with T.serial(d // lanes) as x:
            value = load(self.o, r * d + x * lanes, lanes) * splat(T.float32(1) / self.m_new[r], lanes)
            T.buffer_store(
                output, T.Cast(f"{output.dtype}x{lanes}", value), [token, head, T.ramp(x * lanes, 1, lanes)]
            )
