"""Fused linear layers for CPUs: a `LinearKernel` record goes in, a scheduled PrimFunc comes out.

    O[m, n] = epilogue(sum_k norm(X)[m, k] * dequantize(W)[n, k])

No dequantized weight is ever written to memory: sixteen of them at a time are unpacked into a vector register and
multiplied into the accumulators of a tile of some weight rows by some input rows. The inputs are first copied, and
normalised on the way, into the order in which the unpacked lanes come out, so that unpacking needs no shuffles.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.activation import activate
from argosy.compiler.kernels.lanes import LANES, constant, load, reduce_sum, splat, store
from argosy.compiler.kernels.unpack import Unpacker, unpacker_for
from argosy.quant.scheme import Format

# Input rows between two passes over the weights: their reordered copy should stay in the second-level cache.
TOKENS_PER_BLOCK = 192


@dataclass(frozen=True, slots=True)
class InputNorm:
    """A norm of the input rows: `rms` or `layer`, as `NormSpec` defines them; dtypes of its weight and bias (k,)."""

    kind: str
    eps: float
    offset: float
    weight: str
    bias: str | None = None


@dataclass(frozen=True, slots=True)
class LinearKernel:
    """What one kernel computes: O from X (b, s, k) and W (n, k) stored in `fmt`.

    Without `activation`: O (b, s, n) = norm(X) W^T (+ bias) (+ residual). With one, the first half of W's rows are the
    gates and the second half the ups of a gated feed-forward, and O (b, s, n / 2) = activation(gate) * up; the bias
    comes before that.
    """

    n: int
    k: int
    fmt: Format
    norm: InputNorm | None = None
    bias: str | None = None  # its dtype
    residual: bool = False
    activation: str | None = None

    @property
    def name(self) -> str:
        """For people who read dumps and profiles."""
        parts = [f"{self.norm.kind}norm" if self.norm else "", "linear", self.fmt.name, f"{self.n}x{self.k}"]
        parts.append(self.activation or "")
        parts += ["bias" if self.bias else "", "residual" if self.residual else ""]
        return "_".join(p for p in parts if p)

    @property
    def outputs(self) -> int:
        """Columns of O."""
        return self.n // 2 if self.activation else self.n

    def fits(self) -> bool:
        """Whether rows are whole vectors where they must be: those of float weights and of inputs to be normalised."""
        return self.k % LANES == 0 or (self.fmt.bits > 0 and self.norm is None)


@dataclass(frozen=True, slots=True)
class TileShape:
    """One accumulator for each of `rows` weight rows times some input rows: heights, largest first, down to 1."""

    rows: int
    tokens: tuple[int, ...]


def linear(kernel: LinearKernel, tile: TileShape) -> tirx.PrimFunc:
    """The kernel's PrimFunc; b and s are symbolic.

    Buffers: X (b, s, k) float32, [norm weight (k,)], [norm bias (k,)], the tensors of `Format.tensors` in that order,
    [bias (n,)], [residual (b, s, n) float32], O (b, s, n) float32.
    """
    return _Builder(kernel, tile).build()


class _Builder:
    """Emits the kernel; one method for each loop level, from the outside in."""

    def __init__(self, kernel: LinearKernel, tile: TileShape) -> None:
        self.kernel = kernel
        self.tile = tile
        self.unpack: Unpacker = unpacker_for(kernel.fmt)
        group = kernel.fmt.group or LANES
        self.groups = -(-kernel.k // group)
        self.steps = self.groups * self.unpack.steps  # lanes-full in a row

    def build(self) -> tirx.PrimFunc:
        k = self.kernel
        with IRBuilder() as ib, T.prim_func(s_tir=True, private=True):
            T.func_name(k.name)
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "argosy.kernel": k.name})
            b, s = T.int64(), T.int64()
            handles = {name: T.arg(name, T.handle()) for name in self._argument_names()}
            x = T.match_buffer(handles["x"], (b, s, k.k), "float32")
            self.weights = {
                suffix: T.match_buffer(handles[suffix], shape, dtype)
                for suffix, (shape, dtype) in k.fmt.tensors((k.n, k.k)).items()
            }
            vectors = {"norm_weight": k.norm and k.norm.weight, "norm_bias": k.norm and k.norm.bias}
            self.norm_vectors = {
                name: T.match_buffer(handles[name], (k.k,), dtype) for name, dtype in vectors.items() if dtype
            }
            self.bias = T.match_buffer(handles["bias"], (k.n,), k.bias) if k.bias else None
            residual = T.match_buffer(handles["residual"], (b, s, k.n), "float32") if k.residual else None
            out = T.match_buffer(handles["out"], (b, s, k.outputs), "float32")
            self.m = b * s
            with T.sblock("root"):
                T.reads()
                T.writes()
                self.x = T.decl_buffer((self.m, k.k), "float32", data=x.data)
                self.out = T.decl_buffer((self.m, k.outputs), "float32", data=out.data)
                self.residual = (
                    T.decl_buffer((self.m, k.n), "float32", data=residual.data) if residual is not None else None
                )
                self.ordered = T.sblock_alloc_buffer((self.m, self.steps * LANES), "float32")
                self.words = self.weights["q_weight" if k.fmt.bits else "weight"]
                self._reorder_inputs()
                self._all_tiles()
        return ib.get()

    def _argument_names(self) -> list[str]:
        k = self.kernel
        norm = ["norm_weight"] * (k.norm is not None) + ["norm_bias"] * (k.norm is not None and k.norm.bias is not None)
        after = ["bias"] * (k.bias is not None) + ["residual"] * k.residual
        return ["x", *norm, *k.fmt.tensors((k.n, k.k)), *after, "out"]

    # -- inputs -------------------------------------------------------------------------------------------------------

    def _reorder_inputs(self) -> None:
        """Copies X (m, k), normalised, to (m, steps * 16) in the order of the unpacked lanes; idle lanes get zero."""
        with T.If(self.m <= 4):
            with T.Then(), T.serial(self.m) as row:
                self._reorder_row(row)
            with T.Else(), T.parallel(self.m) as row:
                self._reorder_row(row)

    def _reorder_row(self, row: tirx.Var) -> None:
        columns, k = self.unpack.columns, self.kernel.k
        with T.sblock("row"):
            T.reads()
            T.writes()
            normalise = self._row_norm(row)
            with T.serial(self.steps) as step:
                for lane in range(LANES):
                    source = self.unpack.column_of_lane(lane)
                    value = tirx.const(0.0, "float32")
                    if source is not None:
                        column = step * columns + source
                        if self.steps * columns == k:
                            value = normalise(self.x[row, column], column)
                        else:
                            inside = T.min(column, k - 1)
                            value = T.if_then_else(column < k, normalise(self.x[row, inside], inside), value)
                    T.buffer_store(self.ordered, value, [row, step * LANES + lane])

    def _row_norm(self, row: tirx.Var) -> Callable[[tirx.Expr, tirx.Expr], tirx.Expr]:
        """Computes the statistics of a row; the result normalises an element, given its column."""
        norm = self.kernel.norm
        if norm is None:
            return lambda value, column: value
        mean = self._row_mean(row, lambda x: x) if norm.kind == "layer" else tirx.const(0.0, "float32")
        variance = self._row_mean(row, lambda x: (x - splat(mean)) * (x - splat(mean)))
        scale = T.Bind(tirx.const(1.0, "float32") / T.sqrt(variance + tirx.const(norm.eps, "float32")))

        def normalise(value: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
            weight = T.Cast("float32", self.norm_vectors["norm_weight"][column])
            if norm.offset:
                weight = weight + tirx.const(norm.offset, "float32")
            value = (value - mean) * scale * weight if norm.kind == "layer" else value * scale * weight
            return value + T.Cast("float32", self.norm_vectors["norm_bias"][column]) if norm.bias else value

        return normalise

    def _row_mean(self, row: tirx.Var, of: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
        """The mean over a row of `of` its vectors."""
        total = T.sblock_alloc_buffer((LANES,), "float32")
        store(total, constant(0.0), 0)
        with T.serial(self.kernel.k // LANES) as step:
            store(total, load(total, 0) + of(load(self.x, row, step * LANES)), 0)
        return T.Bind(reduce_sum(load(total, 0)) * tirx.const(1.0 / self.kernel.k, "float32"))

    # -- loops --------------------------------------------------------------------------------------------------------

    def _all_tiles(self) -> None:
        rows = self.tile.rows
        while self.kernel.outputs % (rows // 2 if self.kernel.activation else rows):
            rows //= 2
        self.rows = rows
        per_tile = rows // 2 if self.kernel.activation else rows  # outputs
        with T.serial((self.m + (TOKENS_PER_BLOCK - 1)) // TOKENS_PER_BLOCK) as block:
            first = block * TOKENS_PER_BLOCK
            count = T.min(self.m - first, TOKENS_PER_BLOCK)
            with T.parallel(self.kernel.outputs // per_tile) as strip:
                self._token_tiles(first, count, strip * per_tile)

    def _token_tiles(self, first: tirx.Expr, count: tirx.Expr, output: tirx.Expr) -> None:
        """The tallest tile as often as it fits, then each smaller one as often as the rest allows."""
        tallest, *smaller = self.tile.tokens
        with T.serial(count // tallest) as i:
            self._tile(tallest, first + i * tallest, output)
        rest, done = count % tallest, first + count // tallest * tallest
        for height in smaller:
            with T.serial(rest // height) as i:
                self._tile(height, done + i * height, output)
            done, rest = done + rest // height * height, rest % height

    def _tile(self, height: int, token: tirx.Expr, output: tirx.Expr) -> None:
        k = self.kernel
        if k.activation:
            half = self.rows // 2
            weight_rows = [output + r for r in range(half)] + [output + (k.outputs + r) for r in range(half)]
        else:
            weight_rows = [output + r for r in range(self.rows)]
        with T.sblock("tile"):
            T.reads()
            T.writes()
            # one buffer for each weight row: larger ones would not be promoted to registers
            totals = [T.sblock_alloc_buffer((height * LANES,), "float32") for _ in weight_rows]
            for total in totals:
                for t in range(height):
                    store(total, constant(0.0), t * LANES)
            with T.serial(self.groups) as group:
                self._group(group, token, height, weight_rows, totals)
            for t in range(height):
                self._epilogue(token + t, output, [reduce_sum(load(total, t * LANES)) for total in totals])

    def _group(self, group: tirx.Var, token: tirx.Expr, height: int, weight_rows: list, totals: list) -> None:
        """One scale group of every weight row of the tile, into all accumulators."""
        u = self.unpack
        scales = [self._scale_and_offset(row, group) for row in weight_rows]
        for step in range(u.steps):
            at = group * u.steps + step
            weights = []
            for row, scale_and_offset in zip(weight_rows, scales, strict=True):
                codes = u.codes(self.words, row, at * u.words)
                weights.append(
                    T.Bind(codes if scale_and_offset is None else codes * scale_and_offset[0] + scale_and_offset[1])
                )
            for t in range(height):
                x = T.Bind(load(self.ordered, token + t, at * LANES))
                for weight, total in zip(weights, totals, strict=True):
                    store(total, load(total, t * LANES) + weight * x, t * LANES)

    def _scale_and_offset(self, row: tirx.Expr, group: tirx.Var) -> tuple[tirx.Expr, tirx.Expr] | None:
        """scale and offset with weight = code * scale + offset, as vectors; None for float formats."""
        if self.unpack.fmt.bits == 0:
            return None
        scale = T.Bind(T.Cast("float32", self.weights["q_scale"][row, group]))
        if self.unpack.fmt.has_min:
            offset = T.Cast("float32", self.weights["q_min"][row, group])
        else:
            offset = scale * tirx.const(-float(self.unpack.fmt.zero), "float32")
        return T.Bind(splat(scale)), T.Bind(splat(offset))

    # -- outputs ------------------------------------------------------------------------------------------------------

    def _epilogue(self, token: tirx.Expr, output: tirx.Expr, sums: list) -> None:
        k = self.kernel
        if k.activation:
            half = len(sums) // 2
            for r in range(half):
                gate = self._with_bias(sums[r], output + r)
                up = self._with_bias(sums[half + r], output + (k.outputs + r))
                T.buffer_store(self.out, activate(k.activation, T.Bind(gate)) * up, [token, output + r])
            return
        for r, total in enumerate(sums):
            value = self._with_bias(total, output + r)
            if self.residual is not None:
                value = value + self.residual[token, output + r]
            T.buffer_store(self.out, value, [token, output + r])

    def _with_bias(self, value: tirx.Expr, row: tirx.Expr) -> tirx.Expr:
        return value if self.bias is None else value + T.Cast("float32", self.bias[row])
