"""Multiply bytes: one record per instruction set, which emits the products of a group of 32 columns.

A group of one row block is eight words of four weights for each of `lanes` rows. Its products with the 32 int8 values
of a token (eight 32-bit words) are summed in `lanes` int32 sums.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tvm import tirx
from tvm.tirx.script.builder import ir as T

WORDS = 8  # 32-bit words in a group of 32 columns
Emit = Callable[["DotInstruction", tirx.Expr, Sequence[tirx.Expr], Sequence[tirx.Expr]], tirx.Expr]


@dataclass(frozen=True, slots=True)
class DotInstruction:
    """A way to multiply bytes.

    `lanes`: weight rows in a vector. `features`: the features the CPU must have, as LLVM spells them. `eight_bit`:
    whether 8-bit weights are stored as codes (0 to 255) or as codes minus 128. `order`: whether the four bytes of a row
    lie together, or first the first bytes of all rows, then the second, ... `emit(self, sums, weights, inputs)` returns
    `sums` (int32 x lanes) plus the products of eight weight words (uint8 x 4 lanes) with eight input words (int32).
    """

    name: str
    lanes: int
    features: frozenset[str]
    eight_bit: Literal["code", "signed"]
    order: Literal["rows", "bytes"]
    emit: Emit
    emit_small: Emit | None = None  # for 4-bit codes, if they allow a shorter sequence

    def dot(self, sums: tirx.Expr, weights: Sequence[tirx.Expr], inputs: Sequence[tirx.Expr], bits: int) -> tirx.Expr:
        """Return `sums` plus the products of a group; `bits` is the width of the weights' codes."""
        emit = self.emit_small if bits == 4 and self.emit_small is not None else self.emit
        return emit(self, sums, weights, inputs)


def _call(intrinsic: str, dtype: str, *arguments: tirx.Expr) -> tirx.Expr:
    return T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id(intrinsic), *arguments, dtype=dtype)


def _repeat(word: tirx.Expr, lanes: int) -> tirx.Expr:
    """Repeat the four bytes of `word` in every lane: int8 x 4 lanes."""
    return T.reinterpret(f"int8x{4 * lanes}", T.Broadcast(word, lanes))


def _dpbusd(intrinsic: str) -> Emit:
    """Emit VNNI: unsigned bytes times signed bytes, four products added to each int32."""

    def emit(self, sums, weights, inputs):
        for weight, word in zip(weights, inputs, strict=True):
            sums = T.bind(_call(intrinsic, f"int32x{self.lanes}", sums, weight, _repeat(word, self.lanes)))
        return sums

    return emit


def _avx2(self: DotInstruction, sums: tirx.Expr, weights: Sequence, inputs: Sequence) -> tirx.Expr:
    """Emit AVX2: pairs of products in 16 bits (vpmaddubsw), then pairs of those in 32 (vpmaddwd).

    The unsigned operand is |w|, the signed one takes w's sign: with w in -128 to 127 and inputs in -127 to 127, no pair
    overflows 16 bits.
    """
    bytes_, words, lanes = 4 * self.lanes, f"int16x{2 * self.lanes}", f"int32x{self.lanes}"
    ones = T.Broadcast(tirx.const(1, "int16"), 2 * self.lanes)
    for weight, word in zip(weights, inputs, strict=True):
        signed = T.reinterpret(f"int8x{bytes_}", weight)
        size = _call("llvm.abs", f"int8x{bytes_}", signed, tirx.const(False, "bool"))
        turned = _call("llvm.x86.avx2.psign.b", f"int8x{bytes_}", _repeat(word, self.lanes), signed)
        pairs = _call("llvm.x86.avx2.pmadd.ub.sw", words, size, turned)
        sums = T.bind(sums + _call("llvm.x86.avx2.pmadd.wd", lanes, pairs, ones))
    return sums


def _avx2_small(self: DotInstruction, sums: tirx.Expr, weights: Sequence, inputs: Sequence) -> tirx.Expr:
    """Emit AVX2 for 4-bit codes: all eight pairs of a group (at most 8 * 2 * 15 * 127) fit into 16 bits."""
    words, lanes = f"int16x{2 * self.lanes}", f"int32x{self.lanes}"
    pairs = None
    for weight, word in zip(weights, inputs, strict=True):
        unsigned = T.reinterpret(f"int8x{4 * self.lanes}", weight)
        product = _call("llvm.x86.avx2.pmadd.ub.sw", words, unsigned, _repeat(word, self.lanes))
        pairs = T.bind(product if pairs is None else pairs + product)
    ones = T.Broadcast(tirx.const(1, "int16"), 2 * self.lanes)
    return sums + _call("llvm.x86.avx2.pmadd.wd", lanes, pairs, ones)


def _sdot(self: DotInstruction, sums: tirx.Expr, weights: Sequence, inputs: Sequence) -> tirx.Expr:
    """Emit NEON's sdot: signed times signed, four products per int32. 4-bit codes are valid signed bytes."""
    for weight, word in zip(weights, inputs, strict=True):
        signed = T.reinterpret(f"int8x{4 * self.lanes}", weight)
        sums = T.bind(_call("llvm.aarch64.neon.sdot", f"int32x{self.lanes}", sums, signed, _repeat(word, self.lanes)))
    return sums


def _usdot(self: DotInstruction, sums: tirx.Expr, weights: Sequence, inputs: Sequence) -> tirx.Expr:
    """Emit NEON's usdot: unsigned weights times signed inputs, four products per int32."""
    for weight, word in zip(weights, inputs, strict=True):
        lanes = f"int32x{self.lanes}"
        sums = T.bind(_call("llvm.aarch64.neon.usdot", lanes, sums, weight, _repeat(word, self.lanes)))
    return sums


def _portable(self: DotInstruction, sums: tirx.Expr, weights: Sequence, inputs: Sequence) -> tirx.Expr:
    """Emit plain multiplications and additions of int32 vectors."""
    lanes = f"int32x{self.lanes}"
    for weight, word in zip(weights, inputs, strict=True):
        signed = T.bind(T.reinterpret(f"int8x{4 * self.lanes}", weight))
        for byte in range(4):
            first = byte * self.lanes
            rows = T.Shuffle([signed], [tirx.const(first + r, "int32") for r in range(self.lanes)])
            value = T.shift_right(T.shift_left(word, tirx.const(24 - 8 * byte, "int32")), tirx.const(24, "int32"))
            sums = T.bind(sums + T.Cast(lanes, rows) * T.Broadcast(value, self.lanes))
    return sums


AVX512_VNNI = DotInstruction(
    "avx512vnni", 16, frozenset({"avx512vnni", "avx512bw"}), "code", "rows", _dpbusd("llvm.x86.avx512.vpdpbusd.512")
)
AVX_VNNI = DotInstruction(
    "avxvnni", 8, frozenset({"avxvnni", "avx2"}), "code", "rows", _dpbusd("llvm.x86.avx512.vpdpbusd.256")
)
AVX2 = DotInstruction("avx2", 8, frozenset({"avx2"}), "signed", "rows", _avx2, _avx2_small)
NEON_I8MM = DotInstruction("i8mm", 4, frozenset({"i8mm", "neon"}), "code", "rows", _usdot)
NEON_DOTPROD = DotInstruction("dotprod", 4, frozenset({"dotprod", "neon"}), "signed", "rows", _sdot)
PORTABLE = DotInstruction("portable", 16, frozenset(), "signed", "bytes", _portable)

# Best first; the last one runs anywhere.
INSTRUCTIONS = (AVX512_VNNI, AVX_VNNI, AVX2, NEON_I8MM, NEON_DOTPROD, PORTABLE)


def best_instruction(features: frozenset[str]) -> DotInstruction:
    """Return the best instruction of a CPU with `features`."""
    return next(instruction for instruction in INSTRUCTIONS if instruction.features <= features)
