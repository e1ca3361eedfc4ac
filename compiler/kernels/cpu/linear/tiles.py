"""Lay weights out as the dot-product kernels read them: tiles of row blocks.

A row block is `lanes` rows. For each of its groups of 32 columns a tile holds words of four columns of every row:

    tiles (blocks, groups, words, 4 * lanes) uint8
        4-bit: word j < 4 holds columns 4j.. in the low nibbles, 16 + 4j.. in the high ones; 8-bit: columns 4j.., j < 8
    scales, minima (blocks, groups, lanes) as in the format

Rows beyond the last one, if n is not a multiple of the lanes, are zero.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tvm import te, tirx

from argosy.compiler.kernels.cpu.linear.instruction import DotInstruction
from argosy.quant.scheme import Format

GROUP = 32
COLUMNS = 4  # in a word


@dataclass(frozen=True, slots=True)
class TileLayout:
    """The `Layout` in which an instruction reads the weights of a format."""

    fmt: Format
    instruction: DotInstruction

    @staticmethod
    def holds(fmt: Format) -> bool:
        """Return whether tiles can hold a format: groups of 32 codes of 4 or 8 bits."""
        return fmt.group == GROUP and fmt.bits in (4, 8)

    @property
    def words(self) -> int:
        """Words of a group; two nibbles share a byte."""
        return GROUP // COLUMNS * self.fmt.bits // 8

    @property
    def zero(self) -> int:
        """The stored byte of weight 0: weight = (byte - zero) * scale (+ minimum)."""
        return self.fmt.zero - self.shift

    @property
    def shift(self) -> int:
        """The difference between codes and stored bytes."""
        return 128 if self.fmt.bits == 8 and self.instruction.eight_bit == "signed" else 0

    def blocks(self, n: int) -> int:
        """Return the number of row blocks of n rows."""
        return -(-n // self.instruction.lanes)

    def tensors(self, shape: tuple[int, int]) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return name -> (shape, dtype), in the order in which kernels take them."""
        n, k = shape
        blocks, groups, lanes = self.blocks(n), -(-k // GROUP), self.instruction.lanes
        out = {
            "tiles": ((blocks, groups, self.words, COLUMNS * lanes), "uint8"),
            "scales": ((blocks, groups, lanes), self.fmt.dtype),
        }
        if self.fmt.has_min:
            out["minima"] = ((blocks, groups, lanes), self.fmt.dtype)
        return out

    def pack(self, shape: tuple[int, int], stored: Mapping[str, te.Tensor]) -> list[te.Tensor]:
        """Pack a stored (n, k) matrix into tiles, as TE."""
        n, _ = shape
        lanes = self.instruction.lanes

        def code(row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
            shift = (column % self.fmt.per_word * self.fmt.bits).astype("uint32")
            word = stored["q_weight"][tirx.min(row, n - 1), column // self.fmt.per_word]
            value = tirx.bitwise_and(tirx.shift_right(word, shift), tirx.const((1 << self.fmt.bits) - 1, "uint32"))
            value = value - tirx.const(self.shift, "uint32") if self.shift else value
            return tirx.if_then_else(row < n, value.astype("uint8"), tirx.const(0, "uint8"))

        def byte(block: tirx.Var, group: tirx.Var, word: tirx.Var, at: tirx.Var) -> tirx.Expr:
            lane, inner = self._lane_and_byte(at)
            row, column = block * lanes + lane, group * GROUP + word * COLUMNS + inner
            if self.fmt.bits == 8:
                return code(row, column)
            return tirx.bitwise_or(
                code(row, column), tirx.shift_left(code(row, column + GROUP // 2), tirx.const(4, "uint8"))
            )

        def by_row(name: str) -> Callable[..., tirx.Expr]:
            def element(block: tirx.Var, group: tirx.Var, lane: tirx.Var) -> tirx.Expr:
                row = block * lanes + lane
                return tirx.if_then_else(
                    row < n, stored[name][tirx.min(row, n - 1), group], tirx.const(0, self.fmt.dtype)
                )

            return element

        elements = {"tiles": byte, "scales": by_row("q_scale"), "minima": by_row("q_min")}
        return [
            te.compute(_int64(extents), elements[name], name=name) for name, (extents, _) in self.tensors(shape).items()
        ]

    def row(self, tensors: Mapping[str, te.Tensor], dtype: str) -> Callable[[tirx.Expr, tirx.Expr], tirx.Expr]:
        """Return the function that reads the weight at (row, column) back from tiles."""
        lanes = self.instruction.lanes

        def element(row: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
            block, lane, group, inner = row // lanes, row % lanes, column // GROUP, column % GROUP
            word = inner // COLUMNS % self.words
            at = inner % COLUMNS * lanes + lane
            if self.instruction.order == "rows":
                at = lane * COLUMNS + inner % COLUMNS
            byte = tensors["tiles"][block, group, word, at]
            if self.fmt.bits == 4:
                shift = (inner // (GROUP // 2) * 4).astype("uint8")
                byte = tirx.bitwise_and(tirx.shift_right(byte, shift), tirx.const(15, "uint8"))
            elif self.shift:
                byte = tirx.reinterpret("int8", byte)
            value = byte.astype(dtype) - tirx.const(self.zero, dtype)
            value = value * tensors["scales"][block, group, lane].astype(dtype)
            return value + tensors["minima"][block, group, lane].astype(dtype) if self.fmt.has_min else value

        return element

    def _lane_and_byte(self, at: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
        """Return row and column of byte `at` of a word."""
        if self.instruction.order == "rows":
            return at // COLUMNS, at % COLUMNS
        return at % self.instruction.lanes, at // self.instruction.lanes


def _int64(extents: tuple[int, ...]) -> tuple[tirx.IntImm, ...]:
    """Convert sizes to int64, the dtype of sizes in relax."""
    return tuple(tirx.IntImm("int64", extent) for extent in extents)
