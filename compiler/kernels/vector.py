"""Vector arithmetic for TIR kernels: expressions of float32 lanes go in, expressions that LLVM keeps in registers come out.

TVM lowers a vector `exp2` or `tanh` to one libm call per lane, so both are polynomials here. The functions build
expressions; they are called while a kernel is being parsed.
"""

from __future__ import annotations

from tvm import tirx
from tvm.script import tirx as T

# 2^f on [-1/2, 1/2], least largest relative error (2e-9; in float32 arithmetic 1e-7).
_EXP2 = (
    0.00015345810377436538,
    0.0013399931206137083,
    0.009618488963156284,
    0.055503287770057676,
    0.24022646890578248,
    0.6931472057372422,
    1.0,
)
# tanh x = x p(x^2) / q(x^2) on |x| <= 7.9053, where float32 tanh is 1 beyond (Eigen's ptanh; 3e-7 relative).
_TANH_LIMIT = 7.90531110763549805
_TANH_P = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
_TANH_Q = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)


def splat(value: float | tirx.Expr, lanes: int) -> tirx.Expr:
    """`value` in every lane; a Python number becomes a float32."""
    return T.broadcast(T.float32(value) if isinstance(value, float) else value, lanes)


def horner(x: tirx.Expr, coefficients: tuple[float, ...], lanes: int) -> tirx.Expr:
    """The polynomial with the highest coefficient first."""
    value = splat(coefficients[0], lanes)
    for coefficient in coefficients[1:]:
        value = value * x + splat(coefficient, lanes)
    return value


def exp2(x: tirx.Expr, lanes: int) -> tirx.Expr:
    """2^x for x <= 127, where x is cheap to evaluate again (a load); below -126.5 it is 0."""
    x = T.max(x, splat(-127.0, lanes))
    whole = T.nearbyint(x)
    bits = T.shift_left(T.Cast(f"int32x{lanes}", whole) + T.broadcast(127, lanes), T.broadcast(23, lanes))
    return horner(x - whole, _EXP2, lanes) * T.reinterpret(bits, dtype=f"float32x{lanes}")


def tanh(x: tirx.Expr, lanes: int) -> tirx.Expr:
    """tanh of an x that is cheap to evaluate again (a load)."""
    x = T.max(T.min(x, splat(_TANH_LIMIT, lanes)), splat(-_TANH_LIMIT, lanes))
    return x * horner(x * x, _TANH_P, lanes) / horner(x * x, _TANH_Q, lanes)


def largest(x: tirx.Expr) -> tirx.Expr:
    """The largest lane."""
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id("llvm.vector.reduce.fmax"), x, dtype="float32")


def total(x: tirx.Expr) -> tirx.Expr:
    """The sum of the lanes."""
    intrinsic = T.llvm_lookup_intrinsic_id("llvm.vector.reduce.fadd")
    return T.call_llvm_pure_intrin(intrinsic, T.float32(0), x, dtype="float32")


def load(buffer: tirx.Buffer, offset: tirx.Expr | int, lanes: int) -> tirx.Expr:
    """`lanes` adjacent elements of a one-dimensional buffer, as float32."""
    value = buffer.vload([offset], dtype=f"{buffer.dtype}x{lanes}")
    return value if buffer.dtype == "float32" else T.Cast(f"float32x{lanes}", value)


def store(buffer: tirx.Buffer, offset: tirx.Expr | int, value: tirx.Expr, lanes: int) -> None:
    """Writes the lanes of `value` to adjacent elements of a one-dimensional buffer, in its dtype."""
    if buffer.dtype != "float32":
        value = T.Cast(f"{buffer.dtype}x{lanes}", value)
    T.buffer_store(buffer, value, [T.ramp(offset, 1, lanes)])
