"""Compute linear layers on bytes: inputs rounded to int8 in groups of 32 times 4- and 8-bit weights.

With a = max |norm(X)| / 127 over each group g of 32 columns of a row, and q = round(norm(X) / a) (or finer, with two
planes), every group adds

    a * (scale * (sum_k q[k] * w[n, k] - zero * sum_k q[k]) + minimum * sum_k q[k])

to O[m, n]. A vector holds one int32 sum for each row of a block of weight rows (`tiles.py`), so there are no sums
across lanes, and scales are applied once per group.
"""

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import scratch, view
from argosy.compiler.kernels.cpu.activation import activate
from argosy.compiler.kernels.cpu.lanes import (
    CACHE_LINE,
    LANES,
    constant,
    convert,
    load,
    prefetch,
    reduce_max,
    splat,
    store,
)
from argosy.compiler.kernels.cpu.linear.base import CpuLinear, TileShape
from argosy.compiler.kernels.cpu.linear.instruction import WORDS, DotInstruction
from argosy.compiler.kernels.cpu.linear.tiles import GROUP, TileLayout
from argosy.compiler.kernels.linear import LinearKernel

# With few tokens a kernel is bound by memory, so weights are prefetched this many bytes ahead. The processor's own
# prefetcher does not reach far enough when other programs keep memory busy.
PREFETCH_TOKENS = 8
PREFETCH_BYTES = 4096
SMALLEST = 1e-30  # a group whose largest input is below this becomes zeros


class DotLinear(CpuLinear):
    """The kernel for weights in tiles: the tensors of `TileLayout.tensors`, in that order.

    With one plane, inputs are int8. With two, a second int8 holds the remainder of the first in steps of 1 / 254, which
    is as precise as int16 and takes twice the products.
    """

    def __init__(self, kernel: LinearKernel, tile: TileShape, instruction: DotInstruction, planes: int = 1) -> None:
        super().__init__(kernel, tile)
        self.planes = planes
        self.instruction = instruction
        self.layout = TileLayout(kernel.fmt, instruction)
        self.lanes = instruction.lanes
        self.groups = kernel.k // GROUP
        self.blocks = tile.rows  # row blocks in a strip of outputs
        while self.layout.blocks(kernel.outputs) % self.blocks:
            self.blocks -= 1

    @staticmethod
    def fits(kernel: LinearKernel, instruction: DotInstruction) -> bool:
        """Return whether columns are whole groups, and rows whole blocks if the kernel has an epilogue."""
        whole = kernel.outputs % instruction.lanes == 0
        plain = not (kernel.bias or kernel.residual or kernel.activation)
        return TileLayout.holds(kernel.fmt) and kernel.k % GROUP == 0 and (whole or plain)

    def weight_tensors(self) -> dict[str, tuple[tuple[int, ...], str]]:
        return self.layout.tensors((self.kernel.n, self.kernel.k))

    # -- inputs -------------------------------------------------------------------------------------------------------

    def allocate(self) -> None:
        # int8 values, as the 32-bit words that are broadcast to all lanes
        self.words = [scratch((self.m, self.groups * WORDS), "int32") for _ in range(self.planes)]
        self.bytes = [view(words, (self.m, self.kernel.k), "int8") for words in self.words]
        self.input_scale = scratch((self.m, self.groups), "float32")
        if self.layout.zero:
            self.start = scratch((self.m, self.groups), "int32")  # -zero times the sum of a group
        if self.kernel.fmt.has_min:
            self.input_sum = scratch((self.m, self.groups), "float32")

    def prepare_row(self, row: tirx.Var) -> None:
        """Normalise a row and round it to int8: the scale of each group, its values, and their sum."""
        normalise = self.row_norm(row)
        with T.serial(self.groups) as group:
            halves = []
            for half in range(2):
                column = group * GROUP + half * LANES
                value = convert(load(self.x, row, column), "float32")
                halves.append(T.bind(normalise(value, column, LANES)))
            largest = T.bind(reduce_max(T.bind(T.max(*(T.max(v, -v) for v in halves)))))
            scale = T.bind(largest * tirx.const(1.0 / (127.0 * self._steps), "float32"))
            inverse = tirx.const(127.0, "float32") / T.max(largest, tirx.const(SMALLEST, "float32"))
            inverse = T.bind(splat(T.bind(inverse)))
            T.buffer_store(self.input_scale, scale, [row, group])
            steps = tirx.const(self._steps, "int32")
            codes = []  # in the steps of the last plane
            for half, value in enumerate(halves):
                exact = T.bind(value * inverse)
                near = T.bind(T.nearbyint(exact))
                first = T.bind(convert(near, "int32"))
                store(self.bytes[0], convert(first, "int8"), row, group * GROUP + half * LANES)
                codes.append(first)
                if self.planes == 2:
                    rest = T.bind(convert(T.nearbyint((exact - near) * constant(float(self._steps))), "int32"))
                    store(self.bytes[1], convert(rest, "int8"), row, group * GROUP + half * LANES)
                    codes[-1] = T.bind(first * T.Broadcast(steps, LANES) + rest)
            if self.layout.zero or self.kernel.fmt.has_min:
                total = T.bind(_sum(codes[0] + codes[1]))
                if self.layout.zero:
                    T.buffer_store(self.start, total * tirx.const(-self.layout.zero, "int32"), [row, group])
                if self.kernel.fmt.has_min:
                    T.buffer_store(self.input_sum, T.Cast("float32", total) * scale, [row, group])

    # -- tiles --------------------------------------------------------------------------------------------------------

    def outputs_per_strip(self) -> int:
        return self.blocks * self.lanes

    def emit_tile(self, height: int, token: tirx.Expr, strip: tirx.Var) -> None:
        first = [strip * self.blocks + b for b in range(self.blocks)]
        ups = [block + self.kernel.outputs // self.lanes for block in first] if self.kernel.activation else []
        # one buffer for each row block: larger ones would not be promoted to registers
        totals = [scratch(height * self.lanes, "float32") for _ in [*first, *ups]]
        for block, total in zip([*first, *ups], totals, strict=True):
            for t in range(height):
                store(total, constant(0.0, lanes=self.lanes), t * self.lanes, lanes=self.lanes)
            with T.serial(self.groups) as group:
                self._group(height, token, group, block, total)
        for b, block in enumerate(first):
            for t in range(height):
                self._epilogue(token + t, block, t, totals[b], totals[b + self.blocks] if ups else None)

    def _group(self, height: int, token: tirx.Expr, group: tirx.Var, block: tirx.Expr, total: tirx.Var) -> None:
        """Add the products of one group of a row block to the sums of every token of the tile."""
        if height <= PREFETCH_TOKENS:
            self._prefetch(block, group)
        weights = self._weights(block, group)
        scale = T.bind(self._by_row("scales", block, group))
        minimum = T.bind(self._by_row("minima", block, group)) if self.kernel.fmt.has_min else None
        for t in range(height):
            row = token + t
            start = self.start[row, group] if self.layout.zero else tirx.const(0, "int32")
            sums = self._products(self.planes - 1, row, group, weights, T.Broadcast(start, self.lanes))
            if self.planes == 2:
                zero = T.Broadcast(tirx.const(0, "int32"), self.lanes)
                coarse = self._products(0, row, group, weights, zero)
                sums = coarse * constant(float(self._steps), lanes=self.lanes) + sums
            value = sums * (scale * splat(self.input_scale[row, group], self.lanes))
            if minimum is not None:
                value = value + minimum * splat(self.input_sum[row, group], self.lanes)
            at = t * self.lanes
            store(total, load(total, at, lanes=self.lanes) + value, at, lanes=self.lanes)

    def _prefetch(self, block: tirx.Expr, group: tirx.Var) -> None:
        """Prefetch the tiles PREFETCH_BYTES ahead: groups and row blocks lie one after the other."""
        word = 4 * self.lanes
        size = word * self.layout.words  # bytes of a group
        later = group + -(-PREFETCH_BYTES // size)
        for byte in range(0, size, CACHE_LINE):
            prefetch(self.buffers["tiles"][block, later, byte // word, byte % word])

    @property
    def _steps(self) -> int:
        """Steps of the last plane in one step of the first."""
        return 1 if self.planes == 1 else 254

    def _products(
        self, plane: int, row: tirx.Expr, group: tirx.Var, weights: list[tirx.Expr], start: tirx.Expr
    ) -> tirx.Expr:
        """Return `start` plus the products of the weights with one plane of a row's group, as floats."""
        inputs = [self.words[plane][row, group * WORDS + j] for j in range(WORDS)]
        sums = self.instruction.dot(start, weights, inputs, self.kernel.fmt.bits)
        return convert(sums, "float32", self.lanes)

    def _weights(self, block: tirx.Expr, group: tirx.Var) -> list[tirx.Expr]:
        """Return the eight weight words of a group: uint8 x 4 lanes each."""
        size = 4 * self.lanes
        stored = [T.bind(load(self.buffers["tiles"], block, group, j, 0, lanes=size)) for j in range(self.layout.words)]
        if self.kernel.fmt.bits == 8:
            return stored
        mask = constant(15, "uint8", size)
        low = [T.bind(T.bitwise_and(word, mask)) for word in stored]
        return low + [T.bind(T.bitwise_and(_shift_bytes(word, size), mask)) for word in stored]

    def _by_row(self, name: str, block: tirx.Expr, group: tirx.Var) -> tirx.Expr:
        return convert(load(self.buffers[name], block, group, 0, lanes=self.lanes), "float32", self.lanes)

    # -- outputs ------------------------------------------------------------------------------------------------------

    def _epilogue(self, token: tirx.Expr, block: tirx.Expr, t: int, total: tirx.Var, up: tirx.Var | None) -> None:
        k, lanes, row = self.kernel, self.lanes, block * self.lanes
        value = self._with_bias(load(total, t * lanes, lanes=lanes), row)
        if k.activation is not None and up is not None:
            gate = T.bind(value)
            value = activate(k.activation, gate, lanes) * self._with_bias(
                load(up, t * lanes, lanes=lanes), row + k.outputs
            )
        if self.residual is not None:
            value = value + load(self.residual, token, row, lanes=lanes)
        if k.n % lanes == 0:
            store(self.out, value, token, row, lanes=lanes)
            return
        value = T.bind(value)  # the last block is not full
        for lane in range(lanes):
            with T.If(row + lane < k.n), T.Then():
                T.buffer_store(self.out, T.Shuffle([value], [tirx.const(lane, "int32")]), [token, row + lane])

    def _with_bias(self, value: tirx.Expr, row: tirx.Expr) -> tirx.Expr:
        if not self.kernel.bias:
            return value
        return value + convert(load(self.buffers["bias"], row, lanes=self.lanes), "float32", self.lanes)


def _shift_bytes(value: tirx.Expr, size: int) -> tirx.Expr:
    """Shift every 32-bit word right by four bits: high nibbles move low, with a neighbour's bits above them."""
    words = T.reinterpret(f"uint32x{size // 4}", value)
    return T.reinterpret(f"uint8x{size}", T.shift_right(words, constant(4, "uint32", size // 4)))


def _sum(value: tirx.Expr) -> tirx.Expr:
    intrinsic = T.llvm_lookup_intrinsic_id("llvm.vector.reduce.add")
    return T.call_llvm_pure_intrin(intrinsic, value, dtype="int32")
