"""Unpack the words of a storage format into vectors of sixteen float weights.

Words are expanded in the cheapest way (broadcast, shift, mask), which leaves the weights in an order of their own.
`column_of_lane` gives the column of W in each lane, so that the kernel can put its inputs into the same order.
"""

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.cpu.lanes import LANES, constant, convert, load, splat
from argosy.quant.scheme import Format


@dataclass(frozen=True, slots=True)
class Unpacker:
    """The way in which sixteen lanes are filled from the words of a format.

    A scale group takes `steps` steps (float formats: one); a step fills the lanes from `words` 32-bit words or floats.
    """

    fmt: Format
    steps: int
    words: int

    def column_of_lane(self, lane: int) -> int | None:
        """Return the column of W in `lane`, counted from the first column of the step; None for an idle lane."""
        if self.fmt.bits == 4:  # two words alternate: lane 2i is nibble i of the first, 2i + 1 of the second
            return lane % 2 * 8 + lane // 2
        return lane if lane < self.columns else None

    @property
    def columns(self) -> int:
        """Columns of W in a step."""
        return self.fmt.per_word if self.fmt.bits == 3 else LANES

    def codes(self, words: tirx.Buffer, row: tirx.Expr, word: tirx.Expr) -> tirx.Expr:
        """Return sixteen codes (as float32x16) of `row` from word index `word` on; for float formats, the weights."""
        if self.fmt.bits == 0:
            return convert(load(words, row, word), "float32")
        if self.fmt.bits == 8:
            four = load(words, row, word, lanes=4)
            return convert(convert(T.reinterpret("uint8x16", four), "int32"), "float32")
        if self.fmt.bits == 4:
            pair = T.reinterpret("uint64", load(words, row, word, lanes=2))
            lanes = T.reinterpret("uint32x16", splat(pair, 8))
            shifts = [i // 2 * 4 for i in range(LANES)]
        else:
            lanes = splat(words[row, word])
            shifts = [min(self.fmt.bits * i, 31) for i in range(LANES)]
        amounts = T.Shuffle([tirx.const(s, "uint32") for s in shifts], [tirx.const(i, "int32") for i in range(LANES)])
        masked = T.bitwise_and(T.shift_right(lanes, amounts), constant((1 << self.fmt.bits) - 1, "uint32"))
        return convert(T.reinterpret("int32x16", masked), "float32")


def unpacker_for(fmt: Format) -> Unpacker:
    """Return the unpacker of a format."""
    if fmt.bits == 0:
        return Unpacker(fmt, steps=1, words=LANES)
    words = {3: 1, 4: 2, 8: 4}[fmt.bits]
    return Unpacker(fmt, steps=fmt.words_per_group // words, words=words)
