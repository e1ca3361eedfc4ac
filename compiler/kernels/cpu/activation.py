"""Build the activation functions of float32 values.

Scalars use the C library. Vectors would too, lane by lane, so for them the exponential, the error function and tanh
are approximated to a few units in the last place.
"""

import math
from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.cpu import vector
from argosy.compiler.kernels.cpu.lanes import constant

# erfc(z) = t exp(-z^2 + p(t)) with t = 1 / (1 + z / 2), z >= 0, to a relative 1.2e-7 (Numerical Recipes, section 6.2).
_ERFC = (0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
         -1.26551223)  # fmt: skip


def _exp(x: tirx.Expr, lanes: int) -> tirx.Expr:
    if lanes == 1:
        return T.exp(x)
    scaled = T.bind(T.min(x * constant(math.log2(math.e), lanes=lanes), constant(127.0, lanes=lanes)))
    return vector.exp2(scaled, lanes)


def _tanh(x: tirx.Expr, lanes: int) -> tirx.Expr:
    return T.tanh(x) if lanes == 1 else vector.tanh(T.bind(x), lanes)


def _erf(x: tirx.Expr, lanes: int) -> tirx.Expr:
    if lanes == 1:
        return T.erf(x)
    one = constant(1.0, lanes=lanes)
    size = T.bind(T.max(x, -x))
    t = T.bind(one / (one + constant(0.5, lanes=lanes) * size))
    tail = T.bind(t * _exp(vector.horner(t, _ERFC, lanes) - size * size, lanes))
    return T.Select(x < constant(0.0, lanes=lanes), tail - one, one - tail)


def _silu(x: tirx.Expr, lanes: int) -> tirx.Expr:
    return x / (constant(1.0, lanes=lanes) + _exp(-x, lanes))


def _gelu(x: tirx.Expr, lanes: int) -> tirx.Expr:
    """Compute x * Phi(x) by the error function (Hendrycks and Gimpel 2016)."""
    scaled = T.bind(x * constant(math.sqrt(0.5), lanes=lanes))
    return constant(0.5, lanes=lanes) * x * (constant(1.0, lanes=lanes) + _erf(scaled, lanes))


def _gelu_tanh(x: tirx.Expr, lanes: int) -> tirx.Expr:
    """Compute the tanh approximation of gelu (Hendrycks and Gimpel 2016, equation 2)."""
    cubic = x + constant(0.044715, lanes=lanes) * x * x * x
    inner = constant(math.sqrt(2.0 / math.pi), lanes=lanes) * cubic
    return constant(0.5, lanes=lanes) * x * (constant(1.0, lanes=lanes) + _tanh(inner, lanes))


def _relu(x: tirx.Expr, lanes: int) -> tirx.Expr:
    return T.max(x, constant(0.0, lanes=lanes))


ACTIVATIONS: dict[str, Callable[[tirx.Expr, int], tirx.Expr]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
}


def activate(name: str, x: tirx.Expr, lanes: int = 1) -> tirx.Expr:
    """Apply `ACTIVATIONS[name]` to `lanes` values."""
    return ACTIVATIONS[name](x, lanes)
