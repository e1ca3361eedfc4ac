"""Scalar activation functions in TIR: a name and a float32 expression go in, an expression comes out."""

import math
from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T


def _constant(value: float) -> tirx.Expr:
    return tirx.const(value, "float32")


def _silu(x: tirx.Expr) -> tirx.Expr:
    return x / (_constant(1.0) + T.exp(-x))


def _gelu(x: tirx.Expr) -> tirx.Expr:
    """x * Phi(x), with the error function (Hendrycks and Gimpel 2016)."""
    return _constant(0.5) * x * (_constant(1.0) + T.erf(x * _constant(math.sqrt(0.5))))


def _gelu_tanh(x: tirx.Expr) -> tirx.Expr:
    """The tanh approximation of gelu, equation 2 of Hendrycks and Gimpel 2016."""
    inner = _constant(math.sqrt(2.0 / math.pi)) * (x + _constant(0.044715) * x * x * x)
    return _constant(0.5) * x * (_constant(1.0) + T.tanh(inner))


def _relu(x: tirx.Expr) -> tirx.Expr:
    return T.max(x, _constant(0.0))


ACTIVATIONS: dict[str, Callable[[tirx.Expr], tirx.Expr]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
}


def activate(name: str, x: tirx.Expr) -> tirx.Expr:
    """`ACTIVATIONS[name]` of x."""
    return ACTIVATIONS[name](x)
