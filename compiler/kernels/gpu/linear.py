"""Linear layers for GPUs: what a layer asks for goes in, a PrimFunc that serves every layer of its kind comes out.

The sizes of the matrix are arguments, like the number of tokens: one pair of kernels computes all layers with the same
format, bias and residual. A browser compiles each kernel before the first answer, which a kernel for every shape would
multiply.

Few tokens: some threads for some rows of weights, which they read once, in order. Many: tiles of X and of dequantized
W in shared memory, and 4 by 4 sums for each thread. All sums are float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size, when
from argosy.compiler.kernels.gpu.launch import barrier, ceildiv, registers, shared, workgroups
from argosy.compiler.kernels.linear import LinearKernel
from argosy.quant.scheme import Format

FEW_TOKENS = 4  # up to here a row of weights is read once for each token
ROW_THREADS = 16  # that share rows of weights, for few tokens
ROWS = 4  # of weights that they read together, so that an input is read once for all of them
GROUPS = 4  # of such threads in a workgroup
TILE_TOKENS, TILE_ROWS, DEPTH = 32, 64, 32  # tokens and weight rows of a tile, and columns that are loaded at a time
THREADS_X, THREADS_Y = 16, 8
SUMS_X, SUMS_Y = TILE_ROWS // THREADS_X, TILE_TOKENS // THREADS_Y  # of one thread


@dataclass(frozen=True, slots=True)
class GpuLinearPlan:
    """How a GPU multiplies: in `dtype`, reading weights of `formats` as they are stored."""

    dtype: str
    formats: frozenset[str]

    def layout(self, kernel: LinearKernel) -> None:
        """Weights are not packed again."""
        return None

    def row_layout(self, fmt: Format) -> None:
        """Rows are read from the weights as they are stored."""
        return None

    def builder(self, kernel: LinearKernel) -> GpuLinear | None:
        """The builder of `kernel`, or None where a part of it is to be a kernel of its own."""
        simple = kernel.norm is None and kernel.activation is None and kernel.fmt.name in self.formats
        whole = kernel.fmt.bits == 0 or kernel.k % kernel.fmt.per_word == 0
        return GpuLinear(kernel) if simple and whole else None


class GpuLinear:
    """O (b, s, n) = X (b, s, k) W^T (+ bias) (+ residual), with W (n, k) stored in `fmt` and all sizes symbolic.

    Arguments: X, the tensors of W, [bias (n,)], [residual (b, s, n)], O.
    """

    def __init__(self, kernel: LinearKernel) -> None:
        self.kernel = kernel

    @property
    def key(self) -> object:
        """Layers with the same key share the function."""
        k = self.kernel
        return (k.fmt.name, k.bias, k.residual, k.x, k.out)

    @property
    def name(self) -> str:
        """For people who read dumps and profiles."""
        k = self.kernel
        parts = ["linear", k.fmt.name, "bias" if k.bias else "", "residual" if k.residual else ""]
        return "_".join([*filter(None, parts), *([k.out] if k.out != k.x else [])])

    def build(self) -> tirx.PrimFunc:
        """The scheduled PrimFunc."""
        k = self.kernel
        b, s, n, columns = size("b"), size("s"), size("n"), size("k")
        kernel = Kernel(self.name)
        with kernel:
            x = kernel.tensor("x", (b, s, columns), k.x)
            weights = _Weights(kernel, k.fmt, n, columns)
            bias = kernel.tensor("bias", (n,), k.bias) if k.bias else None
            residual = kernel.tensor("residual", (b, s, n), k.out) if k.residual else None
            out = kernel.tensor("out", (b, s, n), k.out)
            x, residual, out = (_rows(t) if t is not None else None for t in (x, residual, out))

            def finish(token: tirx.Expr, row: tirx.Expr, value: tirx.Expr) -> None:
                if bias is not None:
                    value = value + T.Cast("float32", bias[row])
                if residual is not None:
                    value = value + T.Cast("float32", residual[token, row])
                T.buffer_store(out, T.Cast(k.out, value), [token, row])

            def input_at(token: tirx.Expr, column: tirx.Expr) -> tirx.Expr:
                return T.Cast("float32", x[token, column])

            if k.x != k.out:  # logits, of the last tokens only
                _few_tokens(weights, input_at, finish, b * s, n, columns)
            else:
                with T.If(b * s <= FEW_TOKENS):
                    with T.Then():
                        _few_tokens(weights, input_at, finish, b * s, n, columns)
                    with T.Else():
                        _many_tokens(weights, input_at, finish, b * s, n, columns)
        return kernel.function.with_attr("op_pattern", 8)


def _rows(tensor: tirx.Buffer) -> tirx.Buffer:
    """(b, s, k) as (b * s, k)."""
    b, s, k = tensor.shape
    return T.decl_buffer((b * s, k), tensor.dtype, data=tensor.data, layout=None)


class _Weights:
    """The stored tensors of W, and how their values are read."""

    def __init__(self, kernel: Kernel, fmt: Format, n: tirx.Var, k: tirx.Var) -> None:
        self.fmt, self.k = fmt, k
        if fmt.bits == 0:
            self.per_unit = 1
            self.weight = kernel.tensor("weight", (n, k), fmt.dtype)
        else:
            self.per_unit = fmt.per_word
            groups = (k + (fmt.group - 1)) // fmt.group
            self.words = kernel.tensor("q_weight", (n, groups * fmt.words_per_group), "uint32")
            self.scale = kernel.tensor("q_scale", (n, groups), fmt.dtype)

    def units(self) -> tirx.Expr:
        """Words of a row, or elements."""
        return (self.k + (self.per_unit - 1)) // self.per_unit

    def dot(self, row: tirx.Expr, unit: tirx.Expr, inputs: list[tirx.Expr]) -> tirx.Expr:
        """The product of a unit of a row with as many inputs."""
        if self.fmt.bits == 0:
            return T.Cast("float32", self.weight[row, unit]) * inputs[0]
        word = T.bind(self.words[row, unit])
        terms = [self._code(word, i) * value for i, value in enumerate(inputs)]
        return sum(terms[1:], terms[0]) * self._scale(row, unit)

    def each(self, row: tirx.Expr, unit: tirx.Expr, store) -> None:
        """`store(i, value)` for the values of a unit."""
        if self.fmt.bits == 0:
            store(0, T.Cast("float32", self.weight[row, unit]))
            return
        word, scale = T.bind(self.words[row, unit]), T.bind(self._scale(row, unit))
        for i in range(self.per_unit):
            store(i, self._code(word, i) * scale)

    def _code(self, word: tirx.Expr, i: int) -> tirx.Expr:
        shifted = T.shift_right(word, T.uint32(i * self.fmt.bits)) if i else word
        code = T.bitwise_and(shifted, T.uint32((1 << self.fmt.bits) - 1))
        return T.Cast("float32", code) - T.float32(self.fmt.zero)

    def _scale(self, row: tirx.Expr, unit: tirx.Expr) -> tirx.Expr:
        return T.Cast("float32", self.scale[row, unit // self.fmt.words_per_group])


def _few_tokens(weights: _Weights, input_at, finish, tokens: tirx.Expr, n: tirx.Expr, k: tirx.Expr) -> None:
    """A workgroup for each `GROUPS` times `ROWS` rows of W and each token."""
    rows = GROUPS * ROWS
    with workgroups(ceildiv(n, rows), tokens, GROUPS * ROW_THREADS) as (bx, token, thread):
        shares = shared((rows, ROW_THREADS), "float32")
        sums = registers(ROWS, "float32")
        lane, group = T.bind(thread % ROW_THREADS), T.bind(thread // ROW_THREADS)
        mine = [T.bind(T.min(bx * rows + group * ROWS + i, n - 1)) for i in range(ROWS)]
        for i in range(ROWS):
            T.buffer_store(sums, T.float32(0), [i])
        with T.serial(ceildiv(weights.units() - lane, ROW_THREADS)) as step:
            unit = T.bind(step * ROW_THREADS + lane)
            first = T.bind(unit * weights.per_unit)
            inputs = [T.bind(input_at(token, first + j)) for j in range(weights.per_unit)]
            for i in range(ROWS):
                T.buffer_store(sums, sums[i] + weights.dot(mine[i], unit, inputs), [i])
        for i in range(ROWS):
            T.buffer_store(shares, sums[i], [group * ROWS + i, lane])
        barrier()
        with when(tirx.all(thread < rows, bx * rows + thread < n)):  # one barrier and short sums: halving takes four
            T.buffer_store(sums, T.float32(0), [0])
            with T.serial(ROW_THREADS) as i:
                T.buffer_store(sums, sums[0] + shares[thread, i], [0])
            finish(token, bx * rows + thread, sums[0])


def _many_tokens(weights: _Weights, input_at, finish, tokens: tirx.Expr, n: tirx.Expr, k: tirx.Expr) -> None:
    """A workgroup for each tile of `TILE_TOKENS` tokens and `TILE_ROWS` rows of W."""
    threads = THREADS_X * THREADS_Y
    with workgroups(ceildiv(n, TILE_ROWS), ceildiv(tokens, TILE_TOKENS), threads) as (bx, by, thread):
        tile_x = shared((DEPTH, TILE_TOKENS + 1), "float32")  # one more, so that a column lies in different banks
        tile_w = shared((DEPTH, TILE_ROWS + 1), "float32")
        sums = registers(SUMS_X * SUMS_Y, "float32")
        tx, ty = T.bind(thread % THREADS_X), T.bind(thread // THREADS_X)
        for i in range(SUMS_X * SUMS_Y):
            T.buffer_store(sums, T.float32(0), [i])
        with T.serial(ceildiv(k, DEPTH)) as step:
            with T.serial(DEPTH * TILE_TOKENS // threads) as i:
                column, token = T.bind(thread % DEPTH), T.bind(thread // DEPTH + i * (threads // DEPTH))
                T.buffer_store(tile_x, T.float32(0), [column, token])
                with when(tirx.all(step * DEPTH + column < k, by * TILE_TOKENS + token < tokens)):
                    T.buffer_store(tile_x, input_at(by * TILE_TOKENS + token, step * DEPTH + column), [column, token])
            units = DEPTH // weights.per_unit  # of a row, in this step
            with T.serial(units * TILE_ROWS // threads) as i:
                unit, row = T.bind(thread % units), T.bind(thread // units + i * (threads // units))
                column = T.bind(unit * weights.per_unit)
                inside = tirx.all(step * units + unit < weights.units(), bx * TILE_ROWS + row < n)
                with T.If(inside):
                    with T.Then():
                        weights.each(
                            bx * TILE_ROWS + row, step * units + unit,
                            lambda j, value: T.buffer_store(tile_w, value, [column + j, row]),
                        )  # fmt: skip
                    with T.Else():
                        for j in range(weights.per_unit):
                            T.buffer_store(tile_w, T.float32(0), [column + j, row])
            barrier()
            with T.serial(DEPTH) as column:
                values = [T.bind(tile_w[column, tx + j * THREADS_X]) for j in range(SUMS_X)]
                for i in range(SUMS_Y):
                    x = T.bind(tile_x[column, ty * SUMS_Y + i])
                    for j in range(SUMS_X):
                        T.buffer_store(sums, sums[i * SUMS_X + j] + x * values[j], [i * SUMS_X + j])
            barrier()
        for i in range(SUMS_Y):
            for j in range(SUMS_X):
                token = T.bind(by * TILE_TOKENS + ty * SUMS_Y + i)
                row = T.bind(bx * TILE_ROWS + tx + j * THREADS_X)
                with when(tirx.all(token < tokens, row < n)):
                    finish(token, row, sums[i * SUMS_X + j])
