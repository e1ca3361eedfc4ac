"""Take the attention of each row from the call that computed it."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, parallel_for, when
from argosy.compiler.kernels.cpu.attention.step import SERIAL_ROWS
from argosy.compiler.kernels.cpu.lanes import load, store
from argosy.compiler.kernels.kv import arguments
from argosy.compiler.kernels.kv.scores import NEVER
from argosy.compiler.kernels.kv.shape import AttentionShape


def merge_state(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the kernel that takes rows of v_other (n, heads, d) into v, with their LSE, unless they are hidden.

    Each row is attended to by one call (`step.py`), so nothing is ever added up.
    """
    d, heads, lanes = shape.head_dim, shape.heads, shape.lanes
    with Kernel("attention_merge_state") as kernel:
        n, v, s, v_other, s_other = arguments.merge_state(kernel, shape)

        def take_row(row: tirx.Var) -> None:
            i, h = T.bind(row // heads), T.bind(row % heads)
            with when(s_other[i, h] > T.float32(NEVER / 2)):
                T.buffer_store(s, s_other[i, h], [i, h])
                with T.serial(d // lanes) as x:
                    store(v, load(v_other, i, h, x * lanes, lanes=lanes), i, h, x * lanes, lanes=lanes)

        parallel_for(n * heads, SERIAL_ROWS, take_row)
    return kernel.function
