"""Launching: the sizes of a grid go in, the indices of one of its invocations come out.

The kernels of this package use what every GPU has: a grid of workgroups in two dimensions, memory shared within a
workgroup, and barriers. Nothing depends on the width of a subgroup. Barriers stand where all threads of a workgroup
come by: never behind a condition on data, nor in a loop whose length is computed from data that the kernel writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import block, when

THREADS = 256  # of a workgroup, where nothing speaks for another number; every WebGPU device has them


def ceildiv(a: tirx.Expr | int, b: int) -> tirx.Expr | int:
    """a / b, rounded up."""
    return (a + (b - 1)) // b


@contextmanager
def workgroups(x: tirx.Expr | int, y: tirx.Expr | int | None, threads: int) -> Iterator[tuple[tirx.Expr, ...]]:
    """A kernel of x times y workgroups of `threads`: the place of the workgroup, and the number of the thread in it."""
    with T.thread_binding(x, thread="blockIdx.x") as bx:
        if y is None:
            with T.thread_binding(threads, thread="threadIdx.x") as tx, block("workgroup"):
                yield bx, T.int32(0), tx
        else:
            with (
                T.thread_binding(y, thread="blockIdx.y") as by,
                T.thread_binding(threads, thread="threadIdx.x") as tx,
                block("workgroup"),
            ):
                yield bx, by, tx


@contextmanager
def each(total: tirx.Expr | int, threads: int = THREADS) -> Iterator[tirx.Var]:
    """A kernel with one thread for each i below `total`."""
    with workgroups(ceildiv(total, threads), None, threads) as (bx, _, tx):
        i = T.bind(bx * threads + tx)
        with when(i < total):
            yield i


def shared(shape: tuple[int, ...], dtype: str) -> tirx.Buffer:
    """Memory of the workgroup."""
    return T.sblock_alloc_buffer(shape, dtype, scope="shared")


def registers(count: int, dtype: str) -> tirx.Buffer:
    """Values of one thread. Address them with constants: otherwise they are kept in memory."""
    return T.sblock_alloc_buffer((count,), dtype, scope="local")


def barrier() -> None:
    """All threads of the workgroup wait for each other, and then see what the others wrote to shared memory."""
    T.evaluate(T.tvm_storage_sync("shared"))
