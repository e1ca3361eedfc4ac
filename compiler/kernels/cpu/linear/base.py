"""Emit what all linear kernels share: arguments, the norm of the input rows, and the loops over tiles of input rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, block, parallel_for, scratch, size, view
from argosy.compiler.kernels.cpu.lanes import LANES, constant, convert, load, reduce_sum, splat, store
from argosy.compiler.kernels.linear import LinearKernel

# Input rows between two passes over the weights: their prepared copy should stay in the second-level cache.
TOKENS_PER_BLOCK = 192
SERIAL_ROWS = 4  # up to here, waking the thread pool to prepare input rows costs more than it saves


@dataclass(frozen=True, slots=True)
class TileShape:
    """One accumulator for each of `rows` weight rows (or vectors of rows) times some input rows.

    `tokens` are the heights in input rows, largest first, down to 1.
    """

    rows: int
    tokens: tuple[int, ...]


class CpuLinear:
    """Emits a kernel. A subclass defines how weights are stored, how input rows are prepared, and what a tile computes.

    Arguments of the PrimFunc: X (b, s, k), [norm weight (k,)], [norm bias (k,)], the weight tensors, [bias (n,)],
    [residual (b, s, n) float32], O (b, s, n or n / 2) float32. b and s are symbolic; m = b * s.
    """

    def __init__(self, kernel: LinearKernel, tile: TileShape) -> None:
        self.kernel = kernel
        self.tile = tile

    @property
    def key(self) -> object:
        """Layers with equal keys share the function."""
        return self.kernel

    @property
    def name(self) -> str:
        """The name of the function in dumps and profiles."""
        return self.kernel.name

    # -- to be defined by subclasses ----------------------------------------------------------------------------------

    def weight_tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return name -> (shape, dtype) of the tensors that hold W, in the order of the arguments."""
        raise NotImplementedError

    def allocate(self) -> None:
        """Allocate the buffers for the prepared input rows."""
        raise NotImplementedError

    def prepare_row(self, row: tirx.Var) -> None:
        """Convert one input row to the form that the tiles read."""
        raise NotImplementedError

    def outputs_per_strip(self) -> int:
        """Return the number of columns of O that one strip of weight rows produces."""
        raise NotImplementedError

    def emit_tile(self, height: int, token: tirx.Expr, strip: tirx.Var) -> None:
        """Compute one tile: `height` input rows from `token` on, times the weight rows of `strip`."""
        raise NotImplementedError

    # -- the kernel ---------------------------------------------------------------------------------------------------

    def build(self) -> tirx.PrimFunc:
        """Build the scheduled PrimFunc."""
        k = self.kernel
        with Kernel(k.name, private=True, attributes={"argosy.kernel": k.name}) as kernel:
            b, s = size("b", "int64"), size("s", "int64")
            self.m = b * s
            self.buffers = {
                name: kernel.tensor(name, shape, dtype) for name, (shape, dtype) in self._arguments(b, s).items()
            }
            self.x = self._as_rows("x")
            self.out = self._as_rows("out")
            self.residual = self._as_rows("residual") if k.residual else None
            self.allocate()
            parallel_for(self.m, SERIAL_ROWS, self._prepare)
            self._all_tiles()
        return kernel.function

    def _arguments(self, b: tirx.Var, s: tirx.Var) -> dict[str, tuple[tuple[int | tirx.Expr, ...], str]]:
        """Name -> (shape, dtype) of the arguments, in order."""
        k = self.kernel
        arguments: dict[str, tuple[tuple[int | tirx.Expr, ...], str]] = {"x": ((b, s, k.k), k.x)}
        if k.norm is not None:
            arguments["norm_weight"] = ((k.k,), k.norm.weight)
            if k.norm.bias is not None:
                arguments["norm_bias"] = ((k.k,), k.norm.bias)
        arguments |= self.weight_tensors()
        if k.bias is not None:
            arguments["bias"] = ((k.n,), k.bias)
        if k.residual:
            arguments["residual"] = ((b, s, k.n), "float32")
        arguments["out"] = ((b, s, k.outputs), "float32")
        return arguments

    def _as_rows(self, name: str) -> tirx.Buffer:
        """View the buffer `name` (b, s, columns) as (m, columns)."""
        buffer = self.buffers[name]
        return view(buffer, (self.m, buffer.shape[2]))

    def _prepare(self, row: tirx.Var) -> None:
        with block("row"):
            self.prepare_row(row)

    def _all_tiles(self) -> None:
        with T.serial((self.m + (TOKENS_PER_BLOCK - 1)) // TOKENS_PER_BLOCK) as token_block:
            first = token_block * TOKENS_PER_BLOCK
            count = T.min(self.m - first, TOKENS_PER_BLOCK)
            with T.parallel(-(-self.kernel.outputs // self.outputs_per_strip())) as strip:
                self._token_tiles(first, count, strip)

    def _token_tiles(self, first: tirx.Expr, count: tirx.Expr, strip: tirx.Var) -> None:
        """Emit the tallest tile as often as it fits, then each smaller one as often as the rest allows."""
        tallest, *smaller = self.tile.tokens
        with T.serial(count // tallest) as i:
            self._tile(tallest, first + i * tallest, strip)
        rest, done = count % tallest, first + count // tallest * tallest
        for height in smaller:
            with T.serial(rest // height) as i:
                self._tile(height, done + i * height, strip)
            done, rest = done + rest // height * height, rest % height

    def _tile(self, height: int, token: tirx.Expr, strip: tirx.Var) -> None:
        with block("tile"):
            self.emit_tile(height, token, strip)

    # -- the norm of a row --------------------------------------------------------------------------------------------

    def row_norm(self, row: tirx.Var) -> Callable[[tirx.Expr, tirx.Expr, int], tirx.Expr]:
        """Compute the statistics of a row, and return `normalise(value, column, lanes)` for its elements."""
        norm = self.kernel.norm
        if norm is None:
            return lambda value, column, lanes: value
        mean = self._row_mean(row, lambda x: x) if norm.kind == "layer" else None

        def centred(x: tirx.Expr, lanes: int) -> tirx.Expr:
            return x if mean is None else x - splat(mean, lanes)

        variance = self._row_mean(row, lambda x: centred(x, LANES) * centred(x, LANES))
        scale = T.bind(tirx.const(1.0, "float32") / T.sqrt(variance + tirx.const(norm.eps, "float32")))

        def normalise(value: tirx.Expr, column: tirx.Expr, lanes: int) -> tirx.Expr:
            weight = self._norm_vector("norm_weight", column, lanes)
            if norm.offset:
                weight = weight + constant(norm.offset, lanes=lanes)
            value = centred(value, lanes) * splat(scale, lanes) * weight
            return value + self._norm_vector("norm_bias", column, lanes) if norm.bias else value

        return normalise

    def _norm_vector(self, name: str, column: tirx.Expr, lanes: int) -> tirx.Expr:
        return convert(load(self.buffers[name], column, lanes=lanes), "float32", lanes)

    def _row_mean(self, row: tirx.Var, term: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
        """Average `term` of the vectors of a row."""
        total = scratch(LANES, "float32")
        store(total, constant(0.0), 0)
        with T.serial(self.kernel.k // LANES) as step:
            store(total, load(total, 0) + term(convert(load(self.x, row, step * LANES), "float32")), 0)
        return T.bind(reduce_sum(load(total, 0)) * tirx.const(1.0 / self.kernel.k, "float32"))
