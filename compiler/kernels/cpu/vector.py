"""Approximate functions of float32 vectors by polynomials.

TVM would lower a vector `exp2` or `tanh` to one libm call per lane.
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.cpu.lanes import LANES, constant, convert, dtype

# 2^f on [-1/2, 1/2] with the smallest maximal relative error (2e-9; 1e-7 in float32 arithmetic).
_EXP2 = (
    0.00015345810377436538,
    0.0013399931206137083,
    0.009618488963156284,
    0.055503287770057676,
    0.24022646890578248,
    0.6931472057372422,
    1.0,
)
# tanh x = x p(x^2) / q(x^2) on |x| <= 7.9053, beyond which float32 tanh is 1 (Eigen's ptanh; 3e-7 relative).
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


def horner(x: tirx.Expr, coefficients: tuple[float, ...], lanes: int = LANES) -> tirx.Expr:
    """Evaluate a polynomial, given from the highest coefficient to the lowest."""
    value = constant(coefficients[0], lanes=lanes)
    for coefficient in coefficients[1:]:
        value = value * x + constant(coefficient, lanes=lanes)
    return value


def exp2(x: tirx.Expr, lanes: int = LANES) -> tirx.Expr:
    """Compute 2^x for x <= 127; the result is 0 below -126.5."""
    x = T.bind(T.max(x, constant(-127.0, lanes=lanes)))
    whole = T.bind(T.nearbyint(x))
    exponent = convert(whole, "int32", lanes) + constant(127, "int32", lanes)
    bits = T.reinterpret(T.shift_left(exponent, constant(23, "int32", lanes)), dtype=dtype("float32", lanes))
    return horner(T.bind(x - whole), _EXP2, lanes) * bits


def tanh(x: tirx.Expr, lanes: int = LANES) -> tirx.Expr:
    """Compute the hyperbolic tangent."""
    limit = constant(_TANH_LIMIT, lanes=lanes)
    x = T.bind(T.max(T.min(x, limit), -limit))
    square = T.bind(x * x)
    return x * horner(square, _TANH_P, lanes) / horner(square, _TANH_Q, lanes)
