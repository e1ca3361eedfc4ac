"""Dequantize in the graph: a stored matrix, or some of its rows.

Each emits a `call_tir` of one small elementwise PrimFunc, which can be fused into whatever uses the values.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn

from argosy.quant.scheme import Format

# Attributes of the PrimFuncs: the name of the format, read as a whole or by rows.
ATTRIBUTE = "argosy.dequantize"
ROWS_ATTRIBUTE = "argosy.dequantize_rows"


def dequantize(fmt: Format, tensors: dict[str, nn.Tensor], shape: tuple[int, ...], dtype: str) -> nn.Tensor:
    """Emit the matrix (n, k), or those of all experts (experts, n, k), stored in `tensors` (by suffix), as `dtype`.

    The PrimFunc carries the attribute `argosy.dequantize`. A float matrix of `dtype` is returned as it is.
    """
    if fmt.bits == 0 and fmt.dtype == dtype:
        return tensors["weight"]
    suffixes = list(fmt.tensors(shape))

    def compute(*stored: te.Tensor) -> te.Tensor:
        value = _element(fmt, dict(zip(suffixes, stored, strict=True)), dtype)
        element = (lambda i, j: value(i, j=j)) if len(shape) == 2 else (lambda e, i, j: value(e, i, j=j))
        return te.compute(_extents(shape), element, name="dequantize")

    return nn.op.tensor_expr_op(
        compute, f"dequantize_{fmt.name}", [tensors[suffix] for suffix in suffixes], attrs={ATTRIBUTE: fmt.name}
    )


def dequantize_rows(fmt: Format, tensors: dict[str, nn.Tensor], ids: nn.Tensor, k: int, dtype: str) -> nn.Tensor:
    """Emit rows `ids` (n,) int32 of a stored matrix with `k` columns: (n, k) as `dtype`. Other rows are not read.

    `ids` must lie within the matrix; nothing checks them here. The PrimFunc carries the attribute
    `argosy.dequantize_rows`.
    """
    suffixes = list(fmt.tensors((0, k)))

    def compute(ids: te.Tensor, *stored: te.Tensor) -> te.Tensor:
        value = _element(fmt, dict(zip(suffixes, stored, strict=True)), dtype)
        (n,) = ids.shape
        return te.compute((n, *_extents((k,))), lambda i, j: value(ids[i], j=j), name="rows")

    args = [ids, *(tensors[suffix] for suffix in suffixes)]
    name = f"dequantize_rows_{fmt.name}"
    return nn.op.tensor_expr_op(compute, name, args, attrs={ROWS_ATTRIBUTE: fmt.name})


def _extents(shape: tuple[int, ...]) -> tuple[tirx.IntImm, ...]:
    """Return sizes as int64, which is what relax shapes are made of."""
    return tuple(tirx.IntImm("int64", size) for size in shape)


def _element(fmt: Format, stored: dict[str, te.Tensor], dtype: str) -> Callable[..., Expr]:
    """Return a function of a row (after its expert, if there are several) and a column `j`: the value, as `dtype`."""
    if fmt.bits == 0:
        return lambda *row, j: stored["weight"][(*row, j)].astype(dtype)

    def value(*row: Expr, j: Expr) -> Expr:  # a group holds whole words, so that word and lane follow from j alone
        shift = (j % fmt.per_word * fmt.bits).astype("uint32")
        word = stored["q_weight"][(*row, j // fmt.per_word)]
        code = tirx.bitwise_and(tirx.shift_right(word, shift), tirx.const((1 << fmt.bits) - 1, "uint32"))
        group = j // fmt.group
        centred = code.astype(dtype) - tirx.const(fmt.zero, dtype) if fmt.zero else code.astype(dtype)
        scaled = centred * stored["q_scale"][(*row, group)].astype(dtype)
        return scaled + stored["q_min"][(*row, group)].astype(dtype) if fmt.has_min else scaled

    return value
