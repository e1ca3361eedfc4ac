"""Merge two attention results over disjoint keys into the result over all of them."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, parallel_for
from argosy.compiler.kernels.cpu.lanes import convert, load, splat, store
from argosy.compiler.kernels.kv import arguments
from argosy.compiler.kernels.kv.shape import AttentionShape

SERIAL_ROWS = 256  # up to here, waking the thread pool costs more than it saves


def merge_state(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the kernel that merges v_other (n, heads, d) and its log2 weight s_other (n, heads) into v and s."""
    d, heads, lanes, dtype = shape.head_dim, shape.heads, shape.lanes, shape.dtype
    with Kernel("attention_merge_state") as kernel:
        n, v, s, v_other, s_other = arguments.merge_state(kernel, shape)

        def merge_row(row: tirx.Var) -> None:
            i, h = T.bind(row // heads), T.bind(row % heads)
            larger = T.bind(T.max(s[i, h], s_other[i, h]))
            weight = T.bind(T.exp2(s[i, h] - larger))
            weight_other = T.bind(T.exp2(s_other[i, h] - larger))
            both = T.bind(weight + weight_other)
            T.buffer_store(s, larger + T.log2(both), [i, h])
            with T.serial(d // lanes) as x:
                mine = convert(load(v, i, h, x * lanes, lanes=lanes), "float32", lanes) * splat(weight / both, lanes)
                other = convert(load(v_other, i, h, x * lanes, lanes=lanes), "float32", lanes)
                merged = mine + other * splat(weight_other / both, lanes)
                store(v, convert(merged, dtype, lanes), i, h, x * lanes, lanes=lanes)

        parallel_for(n * heads, SERIAL_ROWS, merge_row)
    return kernel.function
