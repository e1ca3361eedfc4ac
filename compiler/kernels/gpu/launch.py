"""Launch workgroups and address what their threads share.

The kernels of this package use what every GPU has: a grid of workgroups in two dimensions, memory shared within a
workgroup, and barriers. Nothing depends on the width of a subgroup. A barrier stands where all threads of a workgroup
reach it: never behind a condition on data, nor in a loop whose length is computed from data that the kernel writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import block, when
from argosy.compiler.kernels.gpu.traits import GpuTraits, power_of_two_up_to

THREADS = 256  # a larger workgroup hides no more latency, and fewer of them fit on a processor
_UNBOUNDED = 2**31 - 1

Extent = TypeVar("Extent", int, tirx.Expr)


def ceildiv(a: Extent, b: int) -> Extent:
    """Return a / b, rounded up."""
    return (a + (b - 1)) // b


def workgroup_threads(traits: GpuTraits, wanted: int = THREADS) -> int:
    """Return the threads of a workgroup that would be `wanted`, a power of two, if every device had that many."""
    return min(wanted, power_of_two_up_to(traits.threads))


@contextmanager
def workgroups(
    x: tirx.Expr | int, y: tirx.Expr | int | None, threads: int
) -> Iterator[tuple[tirx.Expr, tirx.Expr, tirx.Expr]]:
    """Launch x times y workgroups of `threads`; yield the workgroup's x and y, and the number of the thread in it."""
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
def elementwise(traits: GpuTraits, total: tirx.Expr | int, threads: int = THREADS) -> Iterator[tirx.Expr]:
    """Launch a thread for every i below `total`, or fewer that take several where the grid is too small; yield i."""
    threads = workgroup_threads(traits, threads)
    count = ceildiv(total, threads)
    if traits.grid >= _UNBOUNDED:
        with workgroups(count, None, threads) as (bx, _, tx):
            i = T.bind(bx * threads + tx)
            with when(i < total):
                yield i
        return
    with workgroups(T.min(count, traits.grid), None, threads) as (bx, _, tx):
        first = T.bind(bx * threads + tx)
        stride = traits.grid * threads
        with T.serial(ceildiv(T.max(total - first, 0), stride)) as step:
            yield T.bind(first + step * stride)


def shared(shape: tuple[int, ...], dtype: str) -> tirx.Buffer:
    """Allocate memory of the workgroup."""
    return T.sblock_alloc_buffer(shape, dtype, scope="shared")


def registers(count: int, dtype: str) -> tirx.Buffer:
    """Allocate values of one thread. Address them with constants: otherwise they are kept in memory."""
    return T.sblock_alloc_buffer((count,), dtype, scope="local")


def barrier() -> None:
    """Let all threads of the workgroup wait for each other, and then see what the others wrote to shared memory."""
    T.evaluate(T.tvm_storage_sync("shared"))
