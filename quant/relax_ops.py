"""Dequantization in the graph: the tensors of a stored matrix go in, its float values (or some rows) come out.

Both functions emit `call_tir` of one small elementwise PrimFunc, which fusion can put into whatever uses the values.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import te, tirx
from tvm.ir import Expr
from tvm.relax.frontend import nn

from argosy.quant.scheme import Format

# On the PrimFuncs: the name of the format that they read, all of it or rows of it.
ATTRIBUTE = "argosy.dequantize"
ROWS_ATTRIBUTE = "argosy.dequantize_rows"


def dequantize(fmt: Format, tensors: dict[str, nn.Tensor], shape: tuple[int, int], dtype: str) -> nn.Tensor:
    """The whole (n, k) matrix stored in `tensors` (by suffix), as `dtype`.

    The PrimFunc carries the attribute `argosy.dequantize`. A float matrix of `dtype` is returned as it is.
    """
    if fmt.bits == 0 and fmt.dtype == dtype:
        return tensors["weight"]
    suffixes = list(fmt.tensors(shape))

    def compute(*stored: te.Tensor) -> te.Tensor:
        value = _element(fmt, dict(zip(suffixes, stored, strict=True)), dtype)
        return te.compute(_extents(shape), value, name="dequantize")

    return nn.op.tensor_expr_op(
        compute, f"dequantize_{fmt.name}", [tensors[suffix] for suffix in suffixes], attrs={ATTRIBUTE: fmt.name}
    )


def dequantize_rows(fmt: Format, tensors: dict[str, nn.Tensor], ids: nn.Tensor, k: int, dtype: str) -> nn.Tensor:
    """Rows `ids` (n,) int32 of a stored matrix with `k` columns: (n, k) as `dtype`. Other rows are not read.

    The PrimFunc carries the attribute `argosy.dequantize_rows`.

    `ids` must lie within the matrix; nothing checks them here.
    """
    suffixes = list(fmt.tensors((0, k)))

    def compute(ids: te.Tensor, *stored: te.Tensor) -> te.Tensor:
        value = _element(fmt, dict(zip(suffixes, stored, strict=True)), dtype)
        (n,) = ids.shape
        return te.compute((n, *_extents((k,))), lambda i, j: value(ids[i], j), name="rows")

    args = [ids, *(tensors[suffix] for suffix in suffixes)]
    name = f"dequantize_rows_{fmt.name}"
    return nn.op.tensor_expr_op(compute, name, args, attrs={ROWS_ATTRIBUTE: fmt.name})


def _extents(shape: tuple[int, ...]) -> tuple[tirx.IntImm, ...]:
    """Sizes as int64, which is what relax shapes are made of."""
    return tuple(tirx.IntImm("int64", size) for size in shape)


def _element(fmt: Format, stored: dict[str, te.Tensor], dtype: str) -> Callable[[Expr, Expr], Expr]:
    """The expression of the value in row i, column j: what `Format` says, computed in `dtype`."""
    if fmt.bits == 0:
        return lambda i, j: stored["weight"][i, j].astype(dtype)

    def value(i: Expr, j: Expr) -> Expr:  # a group holds whole words, so that word and lane follow from j alone
        shift = (j % fmt.per_word * fmt.bits).astype("uint32")
        code = tirx.bitwise_and(
            tirx.shift_right(stored["q_weight"][i, j // fmt.per_word], shift), tirx.const((1 << fmt.bits) - 1, "uint32")
        )
        group = j // fmt.group
        centred = code.astype(dtype) - tirx.const(fmt.zero, dtype) if fmt.zero else code.astype(dtype)
        scaled = centred * stored["q_scale"][i, group].astype(dtype)
        return scaled + stored["q_min"][i, group].astype(dtype) if fmt.has_min else scaled

    return value
