"""Attend with a tile of query rows to a range of keys: the inside of every attention kernel.

A row is one query head of one token; the rows of a workgroup share a KV head. For each block of keys a thread computes
the scores of one key with every row (s = q k^T in the log2 domain); then, as in FlashAttention (Dao et al. 2022),
m = running maximum, d = running sum of 2^(s - m), o = running sum of 2^(s - m) v, where a thread has some features of
every row. The threads are cut into slices, and each slice sums its own keys of a block. The result is o / d, and its
weight is LSE = m + log2(d), which the cache's merge kernel expects. All arithmetic is in float32, whatever the cache
holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import when
from argosy.compiler.kernels.gpu.attention.size import TileSize
from argosy.compiler.kernels.gpu.launch import barrier, ceildiv, registers, shared
from argosy.compiler.kernels.kv.scores import LOG2_E, NEVER
from argosy.compiler.kernels.kv.shape import AttentionShape


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A row of queries: its token and head, whether it exists, and the keys low <= key < high it sees."""

    token: tirx.Expr
    head: tirx.Expr
    exists: tirx.Expr
    low: tirx.Expr
    high: tirx.Expr


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys `first` to `end`, the same for all threads; `place(j)` is what `key` and `value` take for number j."""

    first: tirx.Expr
    end: tirx.Expr
    place: Callable[[tirx.Expr], tirx.Expr]
    key: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]  # (place, feature) -> element
    value: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]


class Tile:
    """The rows of a workgroup. Created inside a kernel; then `attend`."""

    def __init__(self, shape: AttentionShape, size: TileSize, thread: tirx.Expr) -> None:
        self.shape, self.size, self.thread = shape, size, thread
        self.rows, self.slices, self.threads = size.rows, size.slices, size.threads
        self.parts = size.parts(shape.head_dim)
        self.lane = T.bind(thread % size.lanes)
        self.slice = T.bind(thread // size.lanes)

    def attend(
        self,
        row: Callable[[int | tirx.Expr], QueryRow],
        keys: Keys,
        q: tirx.Buffer,
        output: tirx.Buffer,
        lse: tirx.Buffer,
        scale: tirx.Expr,
    ) -> None:
        """Write the attention of the rows, and their LSE."""
        rows, parts, d, threads, lanes = self.rows, self.parts, self.shape.head_dim, self.threads, self.size.lanes
        queries, scores = shared((rows, d), "float32"), shared((rows, threads), "float32")
        weights = shared((rows, threads), "float32")
        low, high = registers(rows, "int32"), registers(rows, "int32")
        s, m, before = (registers(rows, "float32") for _ in range(3))
        total, o = registers(rows, "float32"), registers(rows * parts, "float32")
        softcap = self.shape.softcap
        unit = T.bind(scale * T.float32(LOG2_E if softcap is None else 1 / softcap))
        with T.serial(ceildiv(rows * d, threads)) as i:
            element = T.bind(i * threads + self.thread)
            with when(element < rows * d):
                query = row(T.bind(element // d))
                T.buffer_store(queries, T.float32(0), [element // d, element % d])
                with when(query.exists):
                    value = T.Cast("float32", q[query.token, query.head, element % d]) * unit
                    T.buffer_store(queries, value, [element // d, element % d])
        for r in range(rows):
            query = row(r)
            T.buffer_store(low, query.low, [r])
            T.buffer_store(high, T.if_then_else(query.exists, query.high, query.low), [r])
            T.buffer_store(m, T.float32(NEVER), [r])
            T.buffer_store(total, T.float32(0), [r])
            for part in range(parts):
                T.buffer_store(o, T.float32(0), [r * parts + part])
        barrier()
        with T.serial(ceildiv(T.max(keys.end - keys.first, 0), threads)) as block:
            start = T.bind(keys.first + block * threads)
            key = T.bind(start + self.thread)
            for r in range(rows):
                T.buffer_store(s, T.float32(0), [r])
            with when(key < keys.end):
                place = T.bind(keys.place(key))
                with T.serial(d) as x:
                    element = T.bind(T.Cast("float32", keys.key(place, x)))
                    for r in range(rows):
                        T.buffer_store(s, s[r] + queries[r, x] * element, [r])
            for r in range(rows):
                score = s[r] if softcap is None else T.tanh(s[r]) * T.float32(softcap * LOG2_E)
                seen = tirx.all(key >= low[r], key < high[r])
                T.buffer_store(s, T.if_then_else(seen, score, T.float32(NEVER)), [r])
                T.buffer_store(scores, s[r], [r, self.thread])
                T.buffer_store(before, m[r], [r])
            barrier()
            with T.serial(threads) as j:
                for r in range(rows):
                    T.buffer_store(m, T.max(m[r], scores[r, j]), [r])
            for r in range(rows):
                weight = T.if_then_else(s[r] > T.float32(NEVER), T.exp2(s[r] - m[r]), T.float32(0))
                T.buffer_store(weights, weight, [r, self.thread])
                shrink = T.bind(T.exp2(before[r] - m[r]))
                T.buffer_store(total, total[r] * shrink, [r])
                for part in range(parts):
                    T.buffer_store(o, o[r * parts + part] * shrink, [r * parts + part])
            barrier()
            with T.serial(T.max(T.min(keys.end - start - self.slice * lanes, lanes), 0)) as i:
                j = T.bind(self.slice * lanes + i)
                place = T.bind(keys.place(start + j))
                for r in range(rows):
                    T.buffer_store(total, total[r] + weights[r, j], [r])
                for part in range(parts):
                    feature = T.bind(self.lane + part * lanes)
                    value = registers(1, "float32")
                    T.buffer_store(value, T.float32(0), [0])
                    with when(feature < d):
                        T.buffer_store(value, T.Cast("float32", keys.value(place, feature)), [0])
                    for r in range(rows):
                        at = r * parts + part
                        T.buffer_store(o, o[at] + weights[r, j] * value[0], [at])
        if self.slices > 1:
            self._add_slices(total, o)
        for r in range(rows):
            query = row(r)
            with when(tirx.all(query.exists, self.slice == 0)):
                some = total[r] > T.float32(0)
                for part in range(parts):
                    feature = T.bind(self.lane + part * lanes)
                    with when(feature < d):
                        value = T.if_then_else(some, o[r * parts + part] / total[r], T.float32(0))
                        T.buffer_store(output, T.Cast(output.dtype, value), [query.token, query.head, feature])
                with when(self.lane == 0):
                    weight = T.if_then_else(some, m[r] + T.log2(total[r]), T.float32(NEVER))
                    T.buffer_store(lse, weight, [query.token, query.head])

    def _add_slices(self, total: tirx.Buffer, o: tirx.Buffer) -> None:
        """Add the sums of all slices to those of the first, row after row through the same memory."""
        lanes = self.size.lanes
        shares = shared((self.slices, lanes * self.parts), "float32")
        counts = shared((self.slices,), "float32")
        for r in range(self.rows):
            barrier()
            for part in range(self.parts):
                T.buffer_store(shares, o[r * self.parts + part], [self.slice, part * lanes + self.lane])
            with when(self.lane == 0):
                T.buffer_store(counts, total[r], [self.slice])
            barrier()
            T.buffer_store(total, sum((counts[i] for i in range(1, self.slices)), counts[0]), [r])
            for part in range(self.parts):
                place = part * lanes + self.lane
                whole = sum((shares[i, place] for i in range(1, self.slices)), shares[0, place])
                T.buffer_store(o, whole, [r * self.parts + part])
