"""The inside of every attention kernel: a tile of query rows and pages of keys go in, output and LSE come out.

A row is one query head of one token. The rows of a tile belong to one KV head, so a loaded key or value serves all of
them. For each page (16 tokens): scores s = q k^T in the log2 domain, hidden ones replaced by NEVER, then the online
softmax of FlashAttention (Dao et al. 2022): m = running maximum, d = running sum of 2^(s - m), o = running sum of
2^(s - m) v. The result is o / d, and its weight is LSE = m + log2(d), which the cache's merge kernel expects.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.attention.kernel import scratch
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.lanes import constant, convert, load, reduce_max, reduce_sum, splat, store
from argosy.compiler.kernels.vector import exp2, tanh

NEVER = -1e30  # a hidden score; also the LSE of a row that sees no key at all
LOG2_E = math.log2(math.e)


class Tile:
    """The state of one tile of `rows` (at most 16) query rows of one KV head, and the steps that update it.

    Created inside a block; then `load_query` for each row, `attend` for each page, and `finish` for each row. Row r of
    a buffer starts at r times its row length. The buffers named `sum_*` are addressed with constants only, so LLVM
    keeps them in registers.
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
        store(self.m, constant(NEVER), 0)
        with T.serial(rows) as r:
            store(self.d, constant(0.0), r * PAGE)
        with T.serial(rows * d // shape.lanes) as x:
            store(self.o, constant(0.0, lanes=shape.lanes), x * shape.lanes, lanes=shape.lanes)

    def load_query(
        self, r: tirx.Var, q: tirx.Buffer, token: tirx.Expr, head: tirx.Expr, low: tirx.Expr | int, high: tirx.Expr
    ) -> None:
        """Row r is q[token, head], and sees the key slots from `low` to `high`. Called in a loop over r from 0."""
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
        """Takes in one page: the keys of the KV head start at `flat[keys]`, and `used` of its tokens are written."""
        self._score(flat, keys, scale)
        self._soften(visible)
        self._weigh(flat, keys + self.shape.kv_heads * self.shape.side_elements, used)

    def _score(self, flat: tirx.Buffer, keys: tirx.Expr, scale: tirx.Expr) -> None:
        """p = q k^T * scale, still to be capped."""
        with T.unroll(self.rows) as r:
            store(self.sum_s, constant(0.0), r * PAGE)
        with T.serial(self.shape.head_dim) as x:
            key = T.bind(convert(load(flat, keys + x * PAGE), "float32"))
            with T.unroll(self.rows) as r:
                store(self.sum_s, load(self.sum_s, r * PAGE) + splat(self.q[x * self.rows + r]) * key, r * PAGE)
        unit = LOG2_E if self.shape.softcap is None else 1 / self.shape.softcap
        with T.unroll(self.rows) as r:
            store(self.p, load(self.sum_s, r * PAGE) * splat(scale * T.float32(unit)), r * PAGE)

    def _soften(self, visible: Callable[[tirx.Var], tirx.Expr]) -> None:
        """p becomes 2^(p - m) with the new maximum m, and d its running sum."""
        softcap = self.shape.softcap
        store(self.m_new, load(self.m, 0), 0)
        with T.serial(self.rows) as r:
            score = load(self.p, r * PAGE)
            if softcap is not None:
                score = tanh(score) * constant(softcap * LOG2_E)
            score = T.bind(T.Select(visible(r), score, constant(NEVER)))
            store(self.p, score, r * PAGE)
            T.buffer_store(self.m_new, T.max(self.m[r], reduce_max(score)), [r])
        store(self.shrink, exp2(load(self.m, 0) - load(self.m_new, 0)), 0)
        store(self.m, load(self.m_new, 0), 0)
        with T.serial(self.rows) as r:
            weight = T.bind(exp2(load(self.p, r * PAGE) - splat(self.m[r])))
            store(self.p, weight, r * PAGE)
            store(self.d, load(self.d, r * PAGE) * splat(self.shrink[r]) + weight, r * PAGE)

    def _weigh(self, flat: tirx.Buffer, values: tirx.Expr, used: tirx.Expr) -> None:
        """o = o * 2^(m - m_new) + p v. Values not yet written may be anything, even NaN, so they are left out."""
        d, lanes = self.shape.head_dim, self.shape.lanes
        with T.serial(d // lanes) as x:
            with T.unroll(self.rows) as r:
                shrunk = load(self.o, r * d + x * lanes, lanes=lanes) * splat(self.shrink[r], lanes)
                store(self.sum_o, shrunk, r * lanes, lanes=lanes)
            with T.serial(used) as w:
                value = T.bind(convert(load(flat, values + w * d + x * lanes, lanes=lanes), "float32", lanes))
                with T.unroll(self.rows) as r:
                    product = splat(self.p[r * PAGE + w], lanes) * value
                    store(self.sum_o, load(self.sum_o, r * lanes, lanes=lanes) + product, r * lanes, lanes=lanes)
            with T.unroll(self.rows) as r:
                store(self.o, load(self.sum_o, r * lanes, lanes=lanes), r * d + x * lanes, lanes=lanes)

    def finish(self, r: tirx.Var, output: tirx.Buffer, lse: tirx.Buffer, token: tirx.Expr, head: tirx.Expr) -> None:
        """Writes o / d and the LSE of row r. A row that saw no key gets a finite o and LSE NEVER: no weight."""
        d, lanes = self.shape.head_dim, self.shape.lanes
        weight = T.bind(T.max(reduce_sum(load(self.d, r * PAGE)), T.float32(1e-37)))
        T.buffer_store(lse, self.m[r] + T.log2(weight), [token, head])
        with T.serial(d // lanes) as x:
            value = load(self.o, r * d + x * lanes, lanes=lanes) * splat(T.float32(1) / weight, lanes)
            store(output, convert(value, str(output.dtype), lanes), token, head, x * lanes, lanes=lanes)
