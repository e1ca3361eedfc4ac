"""Choose the linear kernel of a layer on a CPU."""

from dataclasses import dataclass

from argosy.compiler.kernels.cpu.linear.base import CpuLinear, TileShape
from argosy.compiler.kernels.cpu.linear.dot import DotLinear
from argosy.compiler.kernels.cpu.linear.exact import ExactLinear
from argosy.compiler.kernels.cpu.linear.instruction import DotInstruction
from argosy.compiler.kernels.cpu.linear.tiles import TileLayout
from argosy.compiler.kernels.linear import LinearKernel
from argosy.quant.scheme import Format

_SMALL_TILE = TileShape(1, (4, 2, 1))


@dataclass(frozen=True, slots=True)
class CpuLinearPlan:
    """A `LinearPlan` for CPUs: the tiles of exact kernels, and the instruction and tiles of kernels on bytes.

    Without an `instruction`, every layer is computed exactly, in float32. `planes`: int8 values per input, 1 or 2.
    """

    exact_tile: TileShape
    instruction: DotInstruction | None = None
    dot_tile: TileShape = _SMALL_TILE
    planes: int = 1

    @property
    def dtype(self) -> str:
        """The dtype of the graph's activations."""
        return "float32"

    def layout(self, kernel: LinearKernel) -> TileLayout | None:
        """Return the tiles into which the weights of `kernel` are packed, or None if it reads them as stored."""
        if self.instruction is None or not DotLinear.fits(kernel, self.instruction):
            return None
        return TileLayout(kernel.fmt, self.instruction)

    def row_layout(self, fmt: Format) -> TileLayout | None:
        """Return tiles for the formats they can hold, else None."""
        return TileLayout(fmt, self.instruction) if self.instruction is not None and TileLayout.holds(fmt) else None

    def builder(self, kernel: LinearKernel) -> CpuLinear | None:
        """Return the builder of `kernel`, or None if no kernel can compute it as a whole."""
        if self.instruction is not None and DotLinear.fits(kernel, self.instruction):
            return DotLinear(kernel, self.dot_tile, self.instruction, self.planes)
        return ExactLinear(kernel, self.exact_tile) if ExactLinear.fits(kernel) else None
