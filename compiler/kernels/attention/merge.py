"""Merging: two attention results over disjoint keys go in, the result over all of them comes out in the first."""

import tvm
from tvm.script import tirx as T

from argosy.compiler.kernels.attention.shape import AttentionShape

# ruff: noqa: F841, F821 (names that TVMScript binds)


def merge_state(shape: AttentionShape) -> tvm.tirx.PrimFunc:
    """v, s: (n, heads, d) output and (n, heads) log2 weight, changed in place; v_other, s_other: the second result."""
    d, heads, lanes, dtype = shape.head_dim, shape.heads, shape.lanes, shape.dtype
    vector = f"{dtype}x{lanes}"

    @T.prim_func(s_tir=True)
    def attention_merge_state(v_h: T.handle, s_h: T.handle, v_other_h: T.handle, s_other_h: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        n = T.int32()
        v = T.match_buffer(v_h, (n, heads, d), dtype)
        s = T.match_buffer(s_h, (n, heads), "float32")
        v_other = T.match_buffer(v_other_h, (n, heads, d), dtype)
        s_other = T.match_buffer(s_other_h, (n, heads), "float32")
        with T.sblock("root"):
            T.reads()
            T.writes()
            for i in T.parallel(n):
                for h in T.serial(heads):
                    with T.sblock("row"):
                        T.reads()
                        T.writes()
                        weight = T.sblock_alloc_buffer((2,), "float32")
                        m: T.let[T.float32] = T.max(s[i, h], s_other[i, h])
                        weight[0] = T.exp2(s[i, h] - m)
                        weight[1] = T.exp2(s_other[i, h] - m)
                        total: T.let[T.float32] = weight[0] + weight[1]
                        s[i, h] = m + T.log2(total)
                        for x in T.serial(d // lanes):
                            v[i, h, T.ramp(x * lanes, 1, lanes)] = v.vload(
                                [i, h, x * lanes], dtype=vector
                            ) * T.broadcast(weight[0] / total, lanes) + v_other.vload(
                                [i, h, x * lanes], dtype=vector
                            ) * T.broadcast(weight[1] / total, lanes)

    return attention_merge_state
