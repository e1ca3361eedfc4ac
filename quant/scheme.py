"""Define the storage formats of matrices, and the schemes that choose among them.

Both are frozen records, one line each.
"""

from __future__ import annotations

from dataclasses import dataclass

from argosy.support.errors import SchemeError


@dataclass(frozen=True, slots=True)
class Format:
    """How a matrix (n, k), or the matrices (experts, n, k) of several experts, are stored.

    Float formats (`bits` 0) are one tensor `weight` of dtype `dtype`. Integer formats are groups of `group` values
    along k: `q_weight` uint32 (n, ceil(k / group) * words_per_group), `per_word` values to a word, the first in the
    lowest bits; `q_scale` of dtype `dtype` (n, ceil(k / group)); with `has_min` also `q_min`, like `q_scale`. Value:
    (q - zero) * scale, or q * scale + min with `has_min`. Experts are stacked along a first axis of every tensor.
    """

    name: str
    dtype: str
    bits: int = 0
    group: int = 0
    zero: int = 0
    has_min: bool = False

    @property
    def per_word(self) -> int:
        """Values in a 32-bit word."""
        return 32 // self.bits

    @property
    def max_int(self) -> int:
        """Steps from zero to the outermost code that has a counterpart on the other side."""
        return (1 << (self.bits - 1)) - 1

    @property
    def words_per_group(self) -> int:
        """32-bit words in a group."""
        return self.group // self.per_word

    def tensors(self, shape: tuple[int, ...]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return (shape, dtype) of the tensors that store a matrix of `shape`, by their suffixes."""
        if self.bits == 0:
            return {"weight": (shape, self.dtype)}
        assert len(shape) in (2, 3), shape
        *rows, k = shape
        groups = -(-k // self.group)
        per_group = (*rows, groups), self.dtype
        out: dict[str, tuple[tuple[int, ...], str]] = {
            "q_weight": ((*rows, groups * self.words_per_group), "uint32"),
            "q_scale": per_group,
        }
        if self.has_min:
            out["q_min"] = per_group
        return out


F32 = Format("f32", "float32")
F16 = Format("f16", "float16")
INT4_F16 = Format("int4_f16", "float16", bits=4, group=32, zero=7)
INT4_F32 = Format("int4_f32", "float32", bits=4, group=32, zero=7)
INT4_MIN_F16 = Format("int4_min_f16", "float16", bits=4, group=32, has_min=True)
INT3_F16 = Format("int3_f16", "float16", bits=3, group=40, zero=3)
INT8_F16 = Format("int8_f16", "float16", bits=8, group=32, zero=128)

FORMATS: dict[str, Format] = {f.name: f for f in (F32, F16, INT4_F16, INT4_F32, INT4_MIN_F16, INT3_F16, INT8_F16)}

WIDER: dict[str, Format] = {F16.name: F32, INT4_F16.name: INT4_F32}
"""The same values in 32-bit floats, which hold every 16-bit one."""


@dataclass(frozen=True, slots=True)
class Scheme:
    """The format of a model's matrices, and that of everything else (norms, biases).

    `matrix` None keeps the checkpoint's own (`keep`). `activations` is the recommended dtype of the inputs of
    matrices: rounding to it costs less than rounding the weights did.
    """

    name: str
    plain: Format
    matrix: Format | None
    activations: str
    summary: str


SCHEMES: dict[str, Scheme] = {
    s.name: s
    for s in (
        Scheme("q0f32", F32, F32, "f32", "unquantized, 32-bit floats"),
        Scheme("q0f16", F16, F16, "f32", "unquantized, 16-bit floats"),
        Scheme("q3f16_1", F16, INT3_F16, "f32", "3-bit groups of 40, 16-bit scales"),
        Scheme("q4f16_1", F16, INT4_F16, "int8", "4-bit groups of 32, 16-bit scales"),
        Scheme("q4f32_1", F32, INT4_F32, "int8", "4-bit groups of 32, 32-bit scales"),
        Scheme("q8f16_1", F16, INT8_F16, "int16", "8-bit groups of 32, 16-bit scales"),
        Scheme("keep", F32, None, "int16", "the blocks of a GGUF file as they are"),
    )
}


def scheme_named(name: str) -> Scheme:
    """Return the scheme called `name`.

    Raises SchemeError for an unknown name.
    """
    if name not in SCHEMES:
        raise SchemeError(f"unknown quantization scheme `{name}`", f"one of: {', '.join(SCHEMES)}")
    return SCHEMES[name]
