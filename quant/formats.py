"""Pack matrices of floats, or a GGUF file's blocks, as words, scales and minima, and unpack them.

Layout (MLC's): groups along k, uint32 words, the first value in the lowest bits; k is padded to whole groups with 0.
The matrices of several experts (experts, n, k) are stored like the matrix of each, stacked along the first axis.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from argosy.quant.rounding import Rounding, rounding_named
from argosy.quant.scheme import INT4_F16, INT4_MIN_F16, INT8_F16, Format
from argosy.support.errors import SchemeError

CHUNK_VALUES = 1 << 17  # values rounded at a time: half a megabyte of float32 stays in the second-level cache
BLOCK = 32  # values in one GGUF block of the types below
BLOCK_FORMATS: dict[str, Format] = {"Q4_0": INT4_F16, "Q4_1": INT4_MIN_F16, "Q8_0": INT8_F16}

Tensors = dict[str, np.ndarray]


class BlockMatrix(Protocol):
    """A matrix (n, k), or a stack of them, as a GGUF file stores it.

    `Q4_0` is (q - 8) * scale, `Q4_1` is q * scale + min, both with q uint8 in 0..15; `Q8_0` is q * scale with q int8.
    """

    @property
    def kind(self) -> str: ...
    @property
    def q(self) -> np.ndarray: ...  # (..., n, k)
    @property
    def scale(self) -> np.ndarray: ...  # (..., n, k / 32) float16
    @property
    def min(self) -> np.ndarray | None: ...  # (..., n, k / 32) float16, Q4_1 only


def empty(fmt: Format, shape: tuple[int, ...]) -> Tensors:
    """Return uninitialised tensors that store a matrix of `shape`."""
    return {suffix: np.empty(dims, dtype) for suffix, (dims, dtype) in fmt.tensors(shape).items()}


def pack(
    fmt: Format,
    values: np.ndarray,
    rounding: str = "full",
    *,
    name: str = "matrix",
    importance: np.ndarray | None = None,
    out: Tensors | None = None,
) -> Tensors:
    """Store `values` (n, k) or (experts, n, k) as `fmt`; float formats take any shape.

    `rounding` is a name in `ROUNDINGS`, `importance` float32 (k,) or (experts, k) is the cost of an error in each
    column (see `Rounding`), `name` is the name of the matrix in errors, `out` are tensors to fill (for example rows of
    larger ones). Raises SchemeError for NaN, infinity, and values or scales that the format's dtype cannot hold.
    """
    out = empty(fmt, values.shape) if out is None else out
    assert {s: (t.shape, str(t.dtype)) for s, t in out.items()} == fmt.tensors(values.shape), (name, values.shape)
    if fmt.bits and values.ndim == 3:
        for i, matrix in enumerate(values):
            costs = importance if importance is None or importance.ndim == 1 else importance[i]
            parts = {suffix: tensor[i] for suffix, tensor in out.items()}
            pack(fmt, matrix, rounding, name=name, importance=costs, out=parts)
        return out
    choice = rounding_named(rounding)
    cost = None  # (groups, group)
    if importance is not None and fmt.bits:
        cost = _grouped(fmt, importance[None], "constant")[0]
    step = max(1, CHUNK_VALUES // max(1, values[:1].size))
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        target = {suffix: tensor[rows] for suffix, tensor in out.items()}
        if fmt.bits == 0:
            _store(values[rows], target["weight"], name)
        else:
            _pack_rows(fmt, values[rows], choice, cost, target, name)
    return out


def _pack_rows(
    fmt: Format, values: np.ndarray, choice: Rounding, cost: np.ndarray | None, out: Tensors, name: str
) -> None:
    """Store a few rows (r, k) as an integer format."""
    groups = _grouped(fmt, values, "edge" if fmt.has_min else "constant")  # (r, groups, group); no range widens
    with np.errstate(over="ignore", invalid="ignore"):
        scale, minimum = choice.choose(fmt, groups, cost)
    _store(scale, out["q_scale"], name, groups)
    if minimum is not None:
        _store(minimum, out["q_min"], name, groups)
    codes = _nearest(fmt, groups, out["q_scale"], out.get("q_min"), choice.symmetric)
    codes.reshape(len(codes), -1)[:, values.shape[1] :] = 0
    pack_codes(fmt, codes, out["q_weight"])


def _store(values: np.ndarray, out: np.ndarray, name: str, origin: np.ndarray | None = None) -> None:
    """Write `values` into `out`, which is float; `origin` are the weights they were computed from, if not themselves.

    Raises SchemeError if a number is not finite afterwards; the message tells whether the checkpoint or the format is
    to blame.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        out[...] = values
    if np.isfinite(out).all():
        return
    origin = values if origin is None else origin
    if not np.isfinite(origin).all():
        raise SchemeError(f"`{name}` holds NaN or infinity", "the checkpoint is damaged; fetch it again")
    peak = float(np.abs(origin).max())
    raise SchemeError(
        f"`{name}` holds values up to `{peak:.3g}`, which {out.dtype} storage cannot hold",
        "use --quantization q4f32_1 or q0f32",
    )


def _grouped(fmt: Format, values: np.ndarray, fill: Literal["constant", "edge"]) -> np.ndarray:
    """Return (r, k) as (r, groups, group) float32, padded with zeros or with the last column."""
    r, k = values.shape
    padding = -k % fmt.group
    values = np.asarray(values, np.float32)
    if padding:
        values = np.pad(values, ((0, 0), (0, padding)), mode=fill)
    return values.reshape(r, -1, fmt.group)


def _nearest(
    fmt: Format, groups: np.ndarray, scale: np.ndarray, minimum: np.ndarray | None, symmetric: bool
) -> np.ndarray:
    """Return the nearest code of every value, uint8 like `groups`; scale and minimum (r, groups) are as stored.

    A group whose scale is zero gets codes that mean zero (or its minimum).
    """
    divisor = scale.astype(np.float32)
    divisor[divisor == 0] = np.inf
    if minimum is None:
        levels = groups / divisor[..., None]
        levels += fmt.zero
    else:
        levels = groups - minimum.astype(np.float32)[..., None]
        levels /= divisor[..., None]
    np.rint(levels, out=levels)
    reach = fmt.max_int if symmetric and minimum is None else 1 << fmt.bits
    np.clip(levels, max(0, fmt.zero - reach), min((1 << fmt.bits) - 1, fmt.zero + reach), out=levels)
    return levels.astype(np.uint8)


def pack_codes(fmt: Format, codes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Pack codes, uint8 (n, groups * group) or (n, groups, group), into uint32 words (n, groups * words_per_group).

    Methods that choose codes themselves (GGUF blocks; an error-compensating method such as GPTQ) end here.
    """
    lanes = codes.reshape(len(codes), -1, fmt.per_word)
    out = np.empty(lanes.shape[:2], np.uint32) if out is None else out
    out[...] = lanes[..., 0]
    for lane in range(1, fmt.per_word):
        out |= np.left_shift(lanes[..., lane], lane * fmt.bits, dtype=np.uint32)
    return out


def unpack_codes(fmt: Format, words: np.ndarray, k: int) -> np.ndarray:
    """Unpack uint32 words (..., groups * words_per_group) to codes, uint8 (..., k)."""
    lanes = np.empty((*words.shape, fmt.per_word), np.uint8)
    for lane in range(fmt.per_word):
        lanes[..., lane] = (words >> np.uint32(lane * fmt.bits)) & np.uint32((1 << fmt.bits) - 1)
    return lanes.reshape(*words.shape[:-1], -1)[..., :k]


def unpack(fmt: Format, tensors: Tensors, k: int) -> np.ndarray:
    """Return the float32 values that `tensors` mean: (..., n, k), or for float formats the shape of `weight`."""
    if fmt.bits == 0:
        return tensors["weight"].astype(np.float32)
    values = unpack_codes(fmt, tensors["q_weight"], k).astype(np.float32)
    values -= fmt.zero
    values *= _by_column(fmt, tensors["q_scale"], k)
    if fmt.has_min:
        values += _by_column(fmt, tensors["q_min"], k)
    return values


def _by_column(fmt: Format, per_group: np.ndarray, k: int) -> np.ndarray:
    """Repeat one number for each group, (..., groups), to one for each column, float32 (..., k)."""
    return np.repeat(per_group.astype(np.float32), fmt.group, axis=-1)[..., :k]


def blocks_fit(kind: str, fmt: Format) -> bool:
    """Return whether `fmt` stores blocks of type `kind` without loss."""
    if fmt.bits == 0 or fmt.group != BLOCK or kind not in BLOCK_FORMATS:
        return False
    own = BLOCK_FORMATS[kind]
    return fmt.bits == own.bits and (fmt.has_min or not own.has_min)


def pack_blocks(blocks: BlockMatrix, fmt: Format | None = None, *, name: str = "matrix") -> tuple[Format, Tensors]:
    """Store a GGUF file's blocks without loss, as `fmt` (by default the smallest format that can).

    Every value dequantizes to exactly the file's (but 0.0 may lose or gain a sign). A Q4_0 block with the negative of
    its scale and 15 - q is a block of our int4; with the minimum -8 * scale it is one of int4 with minima. Raises
    SchemeError for scales that are not finite, and if -8 * scale is too large.
    """
    fmt = BLOCK_FORMATS[blocks.kind] if fmt is None else fmt
    assert blocks_fit(blocks.kind, fmt), (blocks.kind, fmt.name)
    out = empty(fmt, blocks.q.shape)
    codes, scale, minimum = blocks.q, blocks.scale, blocks.min
    if blocks.kind == "Q8_0":
        codes = codes.view(np.uint8) ^ np.uint8(128)
    elif blocks.kind == "Q4_0" and fmt.has_min:
        minimum = scale.astype(np.float32) * -8
    elif blocks.kind == "Q4_0":
        codes, scale = np.uint8(15) - codes, -scale
    _store(scale, out["q_scale"], name)
    if fmt.has_min:
        assert minimum is not None
        _store(minimum, out["q_min"], name)
    words = out["q_weight"]  # new, hence contiguous: the reshaped array is a view of it
    pack_codes(fmt, codes.reshape(-1, codes.shape[-1]), words.reshape(-1, words.shape[-1]))
    return fmt, out
