"""What every linear kernel shares: its arguments, the norm of its input rows, the loops over tiles of input rows."""

from collections.abc import Callable

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.cpu.lanes import LANES, constant, convert, load, reduce_sum, splat, store
from argosy.compiler.kernels.linear import LinearKernel, TileShape

# Input rows between two passes over the weights: their prepared copy should stay in the second-level cache.
TOKENS_PER_BLOCK = 192


class LinearBuilder:
    """Emits a kernel; a subclass says how weights are stored, how an input row is prepared, and what a tile does.

    Arguments of the PrimFunc: X (b, s, k), [norm weight (k,)], [norm bias (k,)], the weight tensors, [bias (n,)],
    [residual (b, s, n) float32], O (b, s, n or n / 2) float32. b and s are symbolic; m = b * s.
    """

    def __init__(self, kernel: LinearKernel, tile: TileShape) -> None:
        self.kernel = kernel
        self.tile = tile

    @property
    def key(self) -> object:
        """Layers with the same key share the function."""
        return self.kernel

    @property
    def name(self) -> str:
        """For people who read dumps and profiles."""
        return self.kernel.name

    # -- what a subclass says -----------------------------------------------------------------------------------------

    def weight_tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Name -> (shape, dtype) of the tensors that hold W, in the order of the arguments."""
        raise NotImplementedError

    def allocate(self) -> None:
        """The buffers for the prepared input rows."""
        raise NotImplementedError

    def prepare_row(self, row: tirx.Var) -> None:
        """Brings one input row into the form that the tiles read."""
        raise NotImplementedError

    def outputs_per_strip(self) -> int:
        """Columns of O that one strip of weight rows makes."""
        raise NotImplementedError

    def emit_tile(self, height: int, token: tirx.Expr, strip: tirx.Var) -> None:
        """One tile: `height` input rows from `token` on, and the weight rows of `strip`."""
        raise NotImplementedError

    # -- the kernel ---------------------------------------------------------------------------------------------------

    def build(self) -> tirx.PrimFunc:
        """The scheduled PrimFunc."""
        k = self.kernel
        with IRBuilder() as ib, T.prim_func(s_tir=True, private=True):
            T.func_name(k.name)
            T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "argosy.kernel": k.name})
            b, s = T.int64(), T.int64()
            vectors = {"norm_weight": k.norm and k.norm.weight, "norm_bias": k.norm and k.norm.bias}
            norm = {name: ((k.k,), dtype) for name, dtype in vectors.items() if dtype}
            bias = {"bias": ((k.n,), k.bias)} if k.bias else {}
            residual = {"residual": ((b, s, k.n), "float32")} if k.residual else {}
            arguments = {"x": ((b, s, k.k), k.x), **norm, **self.weight_tensors(), **bias, **residual}
            arguments["out"] = ((b, s, k.outputs), "float32")
            handles = {name: T.arg(name, T.handle()) for name in arguments}
            self.buffers = {
                name: T.match_buffer(handles[name], shape, dtype) for name, (shape, dtype) in arguments.items()
            }
            self.m = b * s
            with T.sblock("root"):
                T.reads()
                T.writes()
                self.x = self._as_rows("x", k.k, k.x)
                self.out = self._as_rows("out", k.outputs, "float32")
                self.residual = self._as_rows("residual", k.n, "float32") if k.residual else None
                self.allocate()
                self._prepare_inputs()
                self._all_tiles()
        return ib.get()

    def _as_rows(self, name: str, columns: int, dtype: str) -> tirx.Var:
        """The buffer `name` (b, s, columns) as (m, columns)."""
        return T.decl_buffer((self.m, columns), dtype, data=self.buffers[name].data)

    def _prepare_inputs(self) -> None:
        with T.If(self.m <= 4):  # too few to wake the other threads for
            with T.Then(), T.serial(self.m) as row:
                self._prepare(row)
            with T.Else(), T.parallel(self.m) as row:
                self._prepare(row)

    def _prepare(self, row: tirx.Var) -> None:
        with T.sblock("row"):
            T.reads()
            T.writes()
            self.prepare_row(row)

    def _all_tiles(self) -> None:
        with T.serial((self.m + (TOKENS_PER_BLOCK - 1)) // TOKENS_PER_BLOCK) as block:
            first = block * TOKENS_PER_BLOCK
            count = T.min(self.m - first, TOKENS_PER_BLOCK)
            with T.parallel(-(-self.kernel.outputs // self.outputs_per_strip())) as strip:
                self._token_tiles(first, count, strip)

    def _token_tiles(self, first: tirx.Expr, count: tirx.Expr, strip: tirx.Var) -> None:
        """The tallest tile as often as it fits, then each smaller one as often as the rest allows."""
        tallest, *smaller = self.tile.tokens
        with T.serial(count // tallest) as i:
            self._tile(tallest, first + i * tallest, strip)
        rest, done = count % tallest, first + count // tallest * tallest
        for height in smaller:
            with T.serial(rest // height) as i:
                self._tile(height, done + i * height, strip)
            done, rest = done + rest // height * height, rest % height

    def _tile(self, height: int, token: tirx.Expr, strip: tirx.Var) -> None:
        with T.sblock("tile"):
            T.reads()
            T.writes()
            self.emit_tile(height, token, strip)

    # -- the norm of a row --------------------------------------------------------------------------------------------

    def row_norm(self, row: tirx.Var) -> Callable[..., tirx.Expr]:
        """Computes the statistics of a row.

        The result normalises elements: `normalise(value, column)` one, `normalise(value, column, LANES)` a vector.
        """
        norm = self.kernel.norm
        if norm is None:
            return lambda value, column, lanes=1: value
        mean = self._row_mean(row, lambda x: x) if norm.kind == "layer" else None
        centred = (lambda x, lanes: x) if mean is None else (lambda x, lanes: x - splat(mean, lanes))
        variance = self._row_mean(row, lambda x: centred(x, LANES) * centred(x, LANES))
        scale = T.bind(tirx.const(1.0, "float32") / T.sqrt(variance + tirx.const(norm.eps, "float32")))

        def normalise(value: tirx.Expr, column: tirx.Expr, lanes: int = 1) -> tirx.Expr:
            weight = self._norm_vector("norm_weight", column, lanes)
            if norm.offset:
                weight = weight + constant(norm.offset, lanes=lanes)
            value = centred(value, lanes) * splat(scale, lanes) * weight
            return value + self._norm_vector("norm_bias", column, lanes) if norm.bias else value

        return normalise

    def _norm_vector(self, name: str, column: tirx.Expr, lanes: int) -> tirx.Expr:
        return convert(load(self.buffers[name], column, lanes=lanes), "float32", lanes)

    def _row_mean(self, row: tirx.Var, of: Callable[[tirx.Expr], tirx.Expr]) -> tirx.Expr:
        """The mean over a row of `of` its vectors."""
        total = T.sblock_alloc_buffer((LANES,), "float32")
        store(total, constant(0.0), 0)
        with T.serial(self.kernel.k // LANES) as step:
            store(total, load(total, 0) + of(convert(load(self.x, row, step * LANES), "float32")), 0)
        return T.bind(reduce_sum(load(total, 0)) * tirx.const(1.0 / self.kernel.k, "float32"))
