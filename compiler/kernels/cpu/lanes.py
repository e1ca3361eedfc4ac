"""Build expressions of sixteen-lane vectors, which LLVM legalises for the processor at hand."""

from collections.abc import Callable

from tvm import DataType, tirx
from tvm.tirx.script.builder import ir as T

LANES = 16
CACHE_LINE = 64  # bytes


def dtype(scalar: str, lanes: int = LANES) -> str:
    """Return the dtype of `lanes` elements of `scalar`."""
    return scalar if lanes == 1 else f"{scalar}x{lanes}"


def load(buffer: tirx.Buffer, *index: tirx.Expr | int, lanes: int = LANES) -> tirx.Expr:
    """Load `lanes` neighbouring elements along the last axis."""
    if lanes == 1:
        return buffer[tuple(index)]
    return buffer.vload(list(index), dtype=dtype(str(buffer.dtype), lanes))


def store(buffer: tirx.Buffer, value: tirx.Expr, *index: tirx.Expr | int, lanes: int = LANES) -> None:
    """Store `lanes` neighbouring elements along the last axis."""
    *outer, last = index
    T.buffer_store(buffer, value, [*outer, T.Ramp(last, 1, lanes)])


def prefetch(element: tirx.Expr) -> None:
    """Start to load the cache line of a buffer's element into the second-level cache."""
    read, second_level, data = T.int32(0), T.int32(2), T.int32(1)
    T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", T.address_of(element), read, second_level, data))


def splat(value: tirx.Expr, lanes: int = LANES) -> tirx.Expr:
    """Repeat a value in every lane."""
    return value if lanes == 1 else T.Broadcast(value, lanes)


def constant(value: float, scalar: str = "float32", lanes: int = LANES) -> tirx.Expr:
    """Repeat a constant in every lane."""
    return splat(tirx.const(value, scalar), lanes)


def convert(value: tirx.Expr, scalar: str, lanes: int = LANES) -> tirx.Expr:
    """Convert every lane to `scalar`."""
    return T.Cast(dtype(scalar, lanes), value)


def reduce_sum(value: tirx.Expr) -> tirx.Expr:
    """Sum the sixteen lanes."""
    return _reduce(value, lambda a, b: a + b)


def reduce_max(value: tirx.Expr) -> tirx.Expr:
    """Return the largest of the sixteen lanes."""
    return _reduce(value, T.max)


def _reduce(value: tirx.Expr, combine: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> tirx.Expr:
    """Combine halves with halves (LLVM's own reduction of floats is sequential)."""
    width = LANES // 2
    while width > 1:
        low = T.Shuffle([value], [tirx.const(i, "int32") for i in range(width)])
        high = T.Shuffle([value], [tirx.const(i, "int32") for i in range(width, 2 * width)])
        value, width = T.bind(combine(low, high)), width // 2
    return combine(T.Shuffle([value], [tirx.const(0, "int32")]), T.Shuffle([value], [tirx.const(1, "int32")]))


def elements_per_line(buffer: tirx.Buffer) -> int:
    """Return the number of elements in a cache line."""
    return CACHE_LINE // DataType(buffer.dtype).itemsize
