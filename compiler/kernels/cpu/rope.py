"""Rotate queries and keys by their positions: rotary embedding (Su et al. 2021)."""

from __future__ import annotations

import math

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, parallel_for, size, view
from argosy.compiler.kernels.cpu.lanes import LANES, convert, load, store

SERIAL_TOKENS = 8  # up to here, waking the thread pool costs more than it saves


def rope(function: tirx.PrimFunc, heads: int) -> tirx.PrimFunc:
    """Build the kernel that computes the same as `function`.

    It rotates the first `heads` heads of qkv (b, s, h, d) by cos and sin (b * s, pairs): element i of a head turns with
    element i + pairs. Elements from 2 * pairs on and the other heads are copied.
    """
    qkv_type, table_type, _, out_type = (function.params[i].ty for i in range(4))
    all_heads, d = (int(extent) for extent in qkv_type.shape[2:])
    pairs = int(table_type.shape[1])
    out_dtype = str(out_type.dtype)
    b, s, n = (size(name, "int64") for name in "bsn")
    with Kernel("rope", private=True) as kernel:
        qkv = kernel.tensor("qkv", (b, s, all_heads, d), str(qkv_type.dtype))
        cos = kernel.tensor("cos", (n, pairs), str(table_type.dtype))
        sin = kernel.tensor("sin", (n, pairs), str(table_type.dtype))
        out = kernel.tensor("out", (b, s, all_heads, d), out_dtype)
        source = view(qkv, (b * s, all_heads, d))
        target = view(out, (b * s, all_heads, d))

        def token(i: tirx.Var) -> None:
            lanes = math.gcd(pairs, LANES)
            with T.serial(pairs // lanes) as x:
                c = T.bind(load(cos, i, x * lanes, lanes=lanes))
                z = T.bind(load(sin, i, x * lanes, lanes=lanes))
                with T.serial(heads) as h:
                    first = T.bind(convert(load(source, i, h, x * lanes, lanes=lanes), "float32", lanes))
                    second = T.bind(convert(load(source, i, h, pairs + x * lanes, lanes=lanes), "float32", lanes))
                    store(target, convert(first * c - second * z, out_dtype, lanes), i, h, x * lanes, lanes=lanes)
                    turned = convert(second * c + first * z, out_dtype, lanes)
                    store(target, turned, i, h, pairs + x * lanes, lanes=lanes)
            if 2 * pairs < d:
                copy(i, 0, heads, 2 * pairs)
            copy(i, heads, all_heads - heads, 0)

        def copy(i: tirx.Var, head: int, count: int, begin: int) -> None:
            """Copy `count` heads, from element `begin` on."""
            lanes = math.gcd(d - begin, begin, LANES)
            with T.serial(count) as h, T.serial((d - begin) // lanes) as x:
                at = begin + x * lanes
                kept = convert(load(source, i, head + h, at, lanes=lanes), out_dtype, lanes)
                store(target, kept, i, head + h, at, lanes=lanes)

        parallel_for(b * s, SERIAL_TOKENS, token)
    return kernel.function
