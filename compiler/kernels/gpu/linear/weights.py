"""Read the values of a weight matrix as it is stored."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel
from argosy.quant.scheme import Format


class StoredWeights:
    """The stored tensors of W (n, k), declared as the next arguments of a kernel.

    A unit is what one load returns: a word of a quantized format with `per_unit` values, or an element.
    """

    def __init__(self, kernel: Kernel, fmt: Format, n: tirx.Var, k: tirx.Var) -> None:
        self.fmt, self.k = fmt, k
        if fmt.bits == 0:
            self.per_unit = 1
            self.weight = kernel.tensor("weight", (n, k), fmt.dtype)
        else:
            self.per_unit = fmt.per_word
            groups = (k + (fmt.group - 1)) // fmt.group
            self.words = kernel.tensor("q_weight", (n, groups * fmt.words_per_group), "uint32")
            self.scale = kernel.tensor("q_scale", (n, groups), fmt.dtype)

    def units(self) -> tirx.Expr:
        """Return the number of units of a row."""
        return (self.k + (self.per_unit - 1)) // self.per_unit

    def dot(self, row: tirx.Expr, unit: tirx.Expr, inputs: list[tirx.Expr]) -> tirx.Expr:
        """Return the product of a unit of a row and as many inputs, scaled once."""
        if self.fmt.bits == 0:
            return T.Cast("float32", self.weight[row, unit]) * inputs[0]
        word = T.bind(self.words[row, unit])
        terms = [self._code(word, i) * value for i, value in enumerate(inputs)]
        return sum(terms[1:], terms[0]) * self._scale(row, unit)

    def values(self, row: tirx.Expr, unit: tirx.Expr) -> list[tirx.Expr]:
        """Return the values of a unit, as float32."""
        if self.fmt.bits == 0:
            return [T.Cast("float32", self.weight[row, unit])]
        word, scale = T.bind(self.words[row, unit]), T.bind(self._scale(row, unit))
        return [self._code(word, i) * scale for i in range(self.per_unit)]

    def _code(self, word: tirx.Expr, i: int) -> tirx.Expr:
        shifted = T.shift_right(word, T.uint32(i * self.fmt.bits)) if i else word
        code = T.bitwise_and(shifted, T.uint32((1 << self.fmt.bits) - 1))
        return T.Cast("float32", code) - T.float32(self.fmt.zero)

    def _scale(self, row: tirx.Expr, unit: tirx.Expr) -> tirx.Expr:
        return T.Cast("float32", self.scale[row, unit // self.fmt.words_per_group])
