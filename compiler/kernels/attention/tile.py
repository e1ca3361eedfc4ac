"""The inside of every attention kernel: a tile of query rows and pages of keys go in, attention output and LSE come out.

A row is one query head of one token. The rows of a tile belong to one KV head, so a loaded key or value serves all of
them. For each page (16 tokens): scores s = q k^T in the log2 domain, hidden ones replaced by NEVER, then the online
softmax of FlashAttention (Dao et al. 2022): m = running maximum, d = running sum of 2^(s - m), o = running sum of
2^(s - m) v. The result is o / d, and its weight is LSE = m + log2(d), which the cache's merge kernel expects.
"""

import math
from types import SimpleNamespace

from tvm.script import tirx as T

from argosy.compiler.kernels import vector as vec
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape

NEVER = -1e30  # a hidden score; also the LSE of a row that sees no key at all
LOG2_E = math.log2(math.e)


class Tile:
    """Macros over tiles of `rows` (at most 16) query rows of one KV head.

    A kernel opens a block for each tile, calls `allocate`, `clear` and `load_row` for each row, then `attend` for each
    page, then `finish_row`. `state` is what `allocate` returns; row r of its buffers starts at r * row length.
    """

    def __init__(self, shape: AttentionShape, rows: int):
        self.shape = shape
        self.rows = rows
        self.clear, self.load_row = _first_macros(shape, rows)
        self.span = _span_macro(rows)
        self.scores = _scores_macro(shape, rows)
        self.soften = _softmax_macro(shape, rows)
        self.values = _values_macro(shape, rows)
        self.finish_row = _last_macro(shape)

    def allocate(self) -> SimpleNamespace:
        """The buffers of one tile. Those named `sum_*` are addressed with constants only, so LLVM keeps them in registers."""
        d, rows, lanes = self.shape.head_dim, self.rows, self.shape.lanes
        sizes = {
            "q": d * rows,  # (d, rows), so that the rows of one feature are adjacent
            "o": rows * d,
            "p": rows * PAGE,  # scores, then probabilities
            "d": rows * PAGE,  # one sum to a lane
            "m": 16,
            "m_new": 16,
            "shrink": 16,  # 2^(m - m_new)
            "sum_s": rows * PAGE,
            "sum_o": rows * lanes,
        }
        floats = {name: T.sblock_alloc_buffer((size,), "float32") for name, size in sizes.items()}
        # Row r sees the key slots low[r] <= slot < high[r]; `span` is their union over the tile.
        ints = {name: T.sblock_alloc_buffer((size,), "int32") for name, size in (("low", 16), ("high", 16), ("span", 2))}
        return SimpleNamespace(**floats, **ints)


def _at(buffer, offset, lanes: int):
    return buffer.vload([offset], dtype=f"float32x{lanes}")


def _as_float32(flat, offset, dtype: str, lanes: int):
    """A vector of a cache page, in float32."""
    value = flat.vload([offset], dtype=f"{dtype}x{lanes}")
    return value if dtype == "float32" else T.Cast(f"float32x{lanes}", value)


def _first_macros(shape: AttentionShape, rows: int):
    d, lanes = shape.head_dim, shape.lanes

    @T.macro
    def clear(state):
        state.m[T.ramp(0, 1, 16)] = vec.splat(NEVER, 16)
        for r in T.serial(rows):
            state.d[T.ramp(r * PAGE, 1, PAGE)] = vec.splat(0.0, PAGE)
        for x in T.serial(rows * d // lanes):
            state.o[T.ramp(x * lanes, 1, lanes)] = vec.splat(0.0, lanes)

    @T.macro
    def load_row(state, r, q_data, token, head):
        for x in T.serial(d):
            state.q[x * rows + r] = T.Cast("float32", q_data[token, head, x])

    return clear, load_row


def _span_macro(rows: int):
    @T.macro
    def span(state):
        state.span[0] = state.low[0]
        state.span[1] = state.high[0]
        for r in T.serial(rows):
            state.span[0] = T.min(state.span[0], state.low[r])
            state.span[1] = T.max(state.span[1], state.high[r])

    return span


def between(state, first_slot):
    """`visible` for rows that see the slots from low[r] to high[r], on the page that starts at `first_slot`."""

    def visible(r):
        # One unsigned comparison does for both bounds.
        offset = T.ramp(first_slot, 1, PAGE) - T.broadcast(state.low[r], PAGE)
        width = T.Cast("uint32", T.max(state.high[r] - state.low[r], 0))
        return T.Cast(f"uint32x{PAGE}", offset) < T.broadcast(width, PAGE)

    return visible


def _scores_macro(shape: AttentionShape, rows: int):
    """p = q k^T * scale for the 16 keys at `k_at`."""
    d, dtype = shape.head_dim, shape.dtype
    unit = LOG2_E if shape.softcap is None else 1 / shape.softcap

    @T.macro
    def scores(state, flat, k_at, scale):
        for r in T.unroll(rows):
            state.sum_s[T.ramp(r * PAGE, 1, PAGE)] = vec.splat(0.0, PAGE)
        for x in T.serial(d):
            for r in T.unroll(rows):
                state.sum_s[T.ramp(r * PAGE, 1, PAGE)] = _at(state.sum_s, r * PAGE, PAGE) + T.broadcast(
                    state.q[x * rows + r], PAGE
                ) * _as_float32(flat, k_at + x * PAGE, dtype, PAGE)
        for r in T.unroll(rows):
            state.p[T.ramp(r * PAGE, 1, PAGE)] = _at(state.sum_s, r * PAGE, PAGE) * T.broadcast(
                scale * T.float32(unit), PAGE
            )

    return scores


def _softmax_macro(shape: AttentionShape, rows: int):
    """p becomes 2^(p - m) with the new maximum m, and d its running sum. `visible(r)` says which keys row r sees."""
    softcap = shape.softcap

    def capped(score):
        return score if softcap is None else vec.tanh(score, PAGE) * vec.splat(softcap * LOG2_E, PAGE)

    @T.macro
    def soften(state, visible):
        state.m_new[T.ramp(0, 1, 16)] = _at(state.m, 0, 16)
        for r in T.serial(rows):
            state.p[T.ramp(r * PAGE, 1, PAGE)] = T.Select(
                visible(r), capped(_at(state.p, r * PAGE, PAGE)), vec.splat(NEVER, PAGE)
            )
            state.m_new[r] = T.max(state.m[r], vec.largest(_at(state.p, r * PAGE, PAGE)))
        state.m[T.ramp(0, 1, 16)] = _at(state.m, 0, 16) - _at(state.m_new, 0, 16)
        state.shrink[T.ramp(0, 1, 16)] = vec.exp2(_at(state.m, 0, 16), 16)
        state.m[T.ramp(0, 1, 16)] = _at(state.m_new, 0, 16)
        for r in T.serial(rows):
            state.p[T.ramp(r * PAGE, 1, PAGE)] = _at(state.p, r * PAGE, PAGE) - T.broadcast(state.m[r], PAGE)
            state.p[T.ramp(r * PAGE, 1, PAGE)] = vec.exp2(_at(state.p, r * PAGE, PAGE), PAGE)
            state.d[T.ramp(r * PAGE, 1, PAGE)] = _at(state.d, r * PAGE, PAGE) * T.broadcast(
                state.shrink[r], PAGE
            ) + _at(state.p, r * PAGE, PAGE)

    return soften


def _values_macro(shape: AttentionShape, rows: int):
    """o = o * 2^(m - m_new) + p v, for the first `used` of the 16 values at `v_at` (the others are not yet written)."""
    d, lanes, dtype = shape.head_dim, shape.lanes, shape.dtype

    @T.macro
    def values(state, flat, v_at, used):
        for x in T.serial(d // lanes):
            for r in T.unroll(rows):
                state.sum_o[T.ramp(r * lanes, 1, lanes)] = _at(state.o, r * d + x * lanes, lanes) * T.broadcast(
                    state.shrink[r], lanes
                )
            for w in T.serial(used):
                for r in T.unroll(rows):
                    state.sum_o[T.ramp(r * lanes, 1, lanes)] = _at(state.sum_o, r * lanes, lanes) + T.broadcast(
                        state.p[r * PAGE + w], lanes
                    ) * _as_float32(flat, v_at + w * d + x * lanes, dtype, lanes)
            for r in T.unroll(rows):
                state.o[T.ramp(r * d + x * lanes, 1, lanes)] = _at(state.sum_o, r * lanes, lanes)

    return values


def _last_macro(shape: AttentionShape):
    """Write o / d and the LSE of row r. A row that saw no key gets a finite o and LSE NEVER: weight 0 in a merge."""
    d, lanes, dtype = shape.head_dim, shape.lanes, shape.dtype

    @T.macro
    def finish_row(state, r, output, lse, token, head):
        state.m_new[r] = T.max(vec.total(_at(state.d, r * PAGE, PAGE)), T.float32(1e-37))
        lse[token, head] = state.m[r] + T.log2(state.m_new[r])
        for x in T.serial(d // lanes):
            output[token, head, T.ramp(x * lanes, 1, lanes)] = T.Cast(
                f"{dtype}x{lanes}",
                _at(state.o, r * d + x * lanes, lanes) * T.broadcast(T.float32(1) / state.m_new[r], lanes),
            )

    return finish_row
