"""Compute linear layers in float32: inputs times dequantized weights, the reference for all faster kernels.

    O[m, n] = epilogue(sum_k norm(X)[m, k] * dequantize(W)[n, k])

No dequantized weight is ever written to memory: sixteen at a time are unpacked into a vector register and multiplied
into the accumulators of a tile of some weight rows times some input rows. The inputs are first normalised and copied in
the order of the unpacked lanes, so that unpacking needs no shuffles.
"""

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import scratch
from argosy.compiler.kernels.cpu.activation import activate
from argosy.compiler.kernels.cpu.lanes import LANES, constant, load, reduce_sum, splat, store
from argosy.compiler.kernels.cpu.linear.base import CpuLinear, TileShape
from argosy.compiler.kernels.cpu.linear.unpack import Unpacker, unpacker_for
from argosy.compiler.kernels.linear import LinearKernel


class ExactLinear(CpuLinear):
    """The kernel for weights as they are stored: the tensors of `Format.tensors`, in that order."""

    def __init__(self, kernel: LinearKernel, tile: TileShape) -> None:
        super().__init__(kernel, tile)
        self.unpack: Unpacker = unpacker_for(kernel.fmt)
        group = kernel.fmt.group or LANES
        self.groups = -(-kernel.k // group)
        self.steps = self.groups * self.unpack.steps  # vectors of a row
        self.rows = tile.rows
        while kernel.outputs % (self.rows // 2 if kernel.activation else self.rows):
            self.rows //= 2

    @staticmethod
    def fits(kernel: LinearKernel) -> bool:
        """Return whether rows are whole vectors, as float weights and norms require."""
        return kernel.k % LANES == 0 or (kernel.fmt.bits > 0 and kernel.norm is None)

    def weight_tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return self.kernel.fmt.tensors((self.kernel.n, self.kernel.k))

    def allocate(self) -> None:
        self.ordered = scratch((self.m, self.steps * LANES), "float32")
        self.words = self.buffers["q_weight" if self.kernel.fmt.bits else "weight"]

    def prepare_row(self, row: tirx.Var) -> None:
        """Normalise a row and copy it in the order of the unpacked lanes; idle lanes get zero."""
        columns, k = self.unpack.columns, self.kernel.k
        normalise = self.row_norm(row)
        with T.serial(self.steps) as step:
            for lane in range(LANES):
                source = self.unpack.column_of_lane(lane)
                value = tirx.const(0.0, "float32")
                if source is not None:
                    column = step * columns + source
                    if self.steps * columns == k:
                        value = normalise(self._element(row, column), column, 1)
                    else:
                        inside = T.min(column, k - 1)
                        value = T.if_then_else(column < k, normalise(self._element(row, inside), inside, 1), value)
                T.buffer_store(self.ordered, value, [row, step * LANES + lane])

    def _element(self, row: tirx.Var, column: tirx.Expr) -> tirx.Expr:
        return T.Cast("float32", self.x[row, column])

    def outputs_per_strip(self) -> int:
        return self.rows // 2 if self.kernel.activation else self.rows

    def emit_tile(self, height: int, token: tirx.Expr, strip: tirx.Var) -> None:
        k = self.kernel
        output = strip * self.outputs_per_strip()
        if k.activation:
            half = self.rows // 2
            weight_rows = [output + r for r in range(half)] + [output + (k.outputs + r) for r in range(half)]
        else:
            weight_rows = [output + r for r in range(self.rows)]
        # one buffer for each weight row: larger ones would not be promoted to registers
        totals = [scratch(height * LANES, "float32") for _ in weight_rows]
        for total in totals:
            for t in range(height):
                store(total, constant(0.0), t * LANES)
        with T.serial(self.groups) as group:
            self._group(group, token, height, weight_rows, totals)
        for t in range(height):
            self._epilogue(token + t, output, [reduce_sum(load(total, t * LANES)) for total in totals])

    def _group(self, group: tirx.Var, token: tirx.Expr, height: int, weight_rows: list, totals: list) -> None:
        """Add the products of one scale group of every weight row of the tile to all accumulators."""
        u = self.unpack
        scales = [self._scale_and_offset(row, group) for row in weight_rows]
        for step in range(u.steps):
            at = group * u.steps + step
            weights = []
            for row, scale_and_offset in zip(weight_rows, scales, strict=True):
                codes = u.codes(self.words, row, at * u.words)
                weights.append(
                    T.bind(codes if scale_and_offset is None else codes * scale_and_offset[0] + scale_and_offset[1])
                )
            for t in range(height):
                x = T.bind(load(self.ordered, token + t, at * LANES))
                for weight, total in zip(weights, totals, strict=True):
                    store(total, load(total, t * LANES) + weight * x, t * LANES)

    def _scale_and_offset(self, row: tirx.Expr, group: tirx.Var) -> tuple[tirx.Expr, tirx.Expr] | None:
        """Return scale and offset vectors with weight = code * scale + offset; None for float formats."""
        if self.unpack.fmt.bits == 0:
            return None
        scale = T.bind(T.Cast("float32", self.buffers["q_scale"][row, group]))
        if self.unpack.fmt.has_min:
            offset = T.Cast("float32", self.buffers["q_min"][row, group])
        else:
            offset = scale * tirx.const(-float(self.unpack.fmt.zero), "float32")
        return T.bind(splat(scale)), T.bind(splat(offset))

    # -- outputs ------------------------------------------------------------------------------------------------------

    def _epilogue(self, token: tirx.Expr, output: tirx.Expr, sums: list) -> None:
        k = self.kernel
        if k.activation:
            half = len(sums) // 2
            for r in range(half):
                gate = self._with_bias(sums[r], output + r)
                up = self._with_bias(sums[half + r], output + (k.outputs + r))
                T.buffer_store(self.out, activate(k.activation, T.bind(gate)) * up, [token, output + r])
            return
        for r, total in enumerate(sums):
            value = self._with_bias(total, output + r)
            if self.residual is not None:
                value = value + self.residual[token, output + r]
            T.buffer_store(self.out, value, [token, output + r])

    def _with_bias(self, value: tirx.Expr, row: tirx.Expr) -> tirx.Expr:
        return value + T.Cast("float32", self.buffers["bias"][row]) if self.kernel.bias else value
