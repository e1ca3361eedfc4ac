"""Build the modules that hold a network's parameters, and emit the operators that use them.

Operators stay separate (`matmul(x, permute_dims(dequantize(...)))`, `rms_norm`, `silu`): the compiler finds and fuses
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from argosy.model_defs.components.parts import MatrixPart, NormPart, Part, TablePart
from argosy.model_defs.components.rotation import Rotation
from argosy.quant.relax_ops import dequantize, dequantize_rows
from argosy.quant.scheme import Format


@dataclass(frozen=True, slots=True)
class Storage:
    """How parameters are stored, the dtype that the network computes in, and that of cached keys and values.

    `formats` has the format of every linear and embedding parameter by its name; all others are stored as `plain`.
    """

    formats: Mapping[str, Format]
    plain: Format
    activation_dtype: str = "float32"
    kv_dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class ForwardContext:
    """What the layers share in one call: the KV cache, the rotations by kind of rope, and dtypes."""

    cache: PagedKVCache
    rotations: Sequence[Rotation]
    activation_dtype: str
    kv_dtype: str


class Node(nn.Module):
    """A module in the tree of a network; its children have the names of parts of a parameter's name."""

    def __getitem__(self, name: str) -> Node:
        """Return the child called `name`, or with dots in the name its descendant."""
        node = self
        for part in name.split("."):
            node = getattr(node, part)
        return node

    def grow(self, parts: Mapping[str, Part], storage: Storage) -> None:
        """Add a module for each of `parts` at its name, in the order of `parts`."""
        for name, part in parts.items():
            *parents, leaf = name.split(".")
            node = self
            for parent in parents:
                if not hasattr(node, parent):
                    setattr(node, parent, Node())
                node = getattr(node, parent)
            setattr(node, leaf, _module(name, part, storage))


class Matrix(Node):
    """A stored matrix (n, k); the tensors of its format become parameters named by their suffixes."""

    def __init__(self, name: str, part: MatrixPart, storage: Storage) -> None:
        self.format = storage.formats[name]
        self.shape = part.shape
        self.dtype = storage.activation_dtype
        for suffix, (shape, dtype) in self.format.tensors(part.shape).items():
            setattr(self, suffix, nn.Parameter(shape, dtype))
        self.bias = nn.Parameter(part.shape[:1], storage.plain.dtype) if part.bias else None

    def stored(self) -> dict[str, Tensor]:
        """Return the parameters that store the matrix, by suffix."""
        return {suffix: getattr(self, suffix) for suffix in self.format.tensors(self.shape)}

    def rows(self, ids: Tensor) -> Tensor:
        """Emit the rows `ids` (n,) of the matrix: (n, k)."""
        return dequantize_rows(self.format, self.stored(), ids, self.shape[1], self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Emit x W^T (+ bias): (..., k) -> (..., n)."""
        weight = dequantize(self.format, self.stored(), self.shape, self.dtype)
        y = op.matmul(x, op.permute_dims(weight))
        return y if self.bias is None else y + self.bias.astype(self.dtype)


class Norm(Node):
    """A normalisation over the last axis; a weight with more axes than one scales every row by its own."""

    def __init__(self, name: str, part: NormPart, storage: Storage) -> None:
        self.spec = part.norm
        self.dtype = storage.activation_dtype
        self.weight = nn.Parameter(part.shape, storage.plain.dtype)
        self.bias = nn.Parameter(part.shape, storage.plain.dtype) if part.norm.bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Emit the normalised `x`, of the same shape."""
        weight = self.weight.astype(self.dtype)
        if self.spec.offset:
            weight = weight + Tensor.from_scalar(self.spec.offset, self.dtype)
        bias = None if self.bias is None else self.bias.astype(self.dtype)
        if len(self.weight.shape) == 1:
            return self._normalise(x, weight, bias)
        ones = Tensor.from_const(np.ones(self.weight.shape[-1], self.dtype))
        y = self._normalise(x, ones, None) * weight
        return y if bias is None else y + bias

    def _normalise(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.spec.kind == "rms":
            return op.rms_norm(x, weight, axes=[-1], epsilon=self.spec.eps)
        return op.layer_norm(x, self.weight.shape[-1], weight, bias, self.spec.eps)


class Table(Node):
    """A table (rows, k) that is not quantized."""

    def __init__(self, name: str, part: TablePart, storage: Storage) -> None:
        self.dtype = storage.activation_dtype
        self.weight = nn.Parameter(part.shape, storage.plain.dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """Emit the rows `ids` (n,) of the table: (n, k)."""
        rows = gather("position_rows", self.weight, ids, lambda weight, row, column: weight[row, column])
        return rows.astype(self.dtype)


def _module(name: str, part: Part, storage: Storage) -> Node:
    """Return the module that holds the parameters of `part`."""
    return MODULES[type(part)](name, part, storage)


MODULES: dict[type, Callable[..., Node]] = {MatrixPart: Matrix, NormPart: Norm, TablePart: Table}


def gather(name: str, x: Tensor, rows: Tensor, element: Callable[..., tirx.Expr]) -> Tensor:
    """Emit `element(x, row, column)` for each of `rows` (n,): (n, columns). `op.take` would warn while compiling."""

    def compute(x: te.Tensor, rows: te.Tensor) -> te.Tensor:
        return te.compute((rows.shape[0], x.shape[-1]), lambda i, j: element(x, rows[i], j), name=name)

    return op.tensor_expr_op(compute, name, [x, rows])
