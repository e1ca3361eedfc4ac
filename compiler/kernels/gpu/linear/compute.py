"""Multiply: a row of weights at a time for few tokens, tiles in shared memory for many. All sums are float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import when
from argosy.compiler.kernels.gpu.launch import barrier, ceildiv, registers, shared, workgroups
from argosy.compiler.kernels.gpu.linear.tiles import MatrixTile, RowTile
from argosy.compiler.kernels.gpu.linear.weights import StoredWeights


@dataclass(frozen=True, slots=True)
class Multiplication:
    """The operands of a layer: `input_at(token, column)` reads X, `finish(token, row, sum)` writes O.

    X has `tokens` rows, W has `n`, and both have `k` columns.
    """

    weights: StoredWeights
    input_at: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]
    finish: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], None]
    tokens: tirx.Expr
    n: tirx.Expr
    k: tirx.Expr


def few_tokens(job: Multiplication, tile: RowTile) -> None:
    """Launch a workgroup for every `tile.all_rows` rows of W and every token."""
    weights, n = job.weights, job.n
    with workgroups(ceildiv(n, tile.all_rows), job.tokens, tile.threads) as (bx, token, thread):
        shares = shared((tile.all_rows, tile.lanes), "float32")
        sums = registers(tile.rows, "float32")
        lane, group = T.bind(thread % tile.lanes), T.bind(thread // tile.lanes)
        mine = [T.bind(T.min(bx * tile.all_rows + group * tile.rows + i, n - 1)) for i in range(tile.rows)]
        for i in range(tile.rows):
            T.buffer_store(sums, T.float32(0), [i])
        with T.serial(ceildiv(weights.units() - lane, tile.lanes)) as step:
            unit = T.bind(step * tile.lanes + lane)
            first = T.bind(unit * weights.per_unit)
            inputs = [T.bind(job.input_at(token, first + j)) for j in range(weights.per_unit)]
            for i in range(tile.rows):
                T.buffer_store(sums, sums[i] + weights.dot(mine[i], unit, inputs), [i])
        for i in range(tile.rows):
            T.buffer_store(shares, sums[i], [group * tile.rows + i, lane])
        barrier()
        row = bx * tile.all_rows + thread
        with when(tirx.all(thread < tile.all_rows, row < n)):  # one barrier and short sums: halving takes four
            T.buffer_store(sums, T.float32(0), [0])
            with T.serial(tile.lanes) as i:
                T.buffer_store(sums, sums[0] + shares[thread, i], [0])
            job.finish(token, row, sums[0])


def many_tokens(job: Multiplication, tile: MatrixTile) -> None:
    """Launch a workgroup for every tile of `tile.tokens` tokens and `tile.rows` rows of W."""
    grid = ceildiv(job.n, tile.rows), ceildiv(job.tokens, tile.tokens)
    with workgroups(*grid, tile.threads) as (bx, by, thread):
        # One more than is used, so that a column lies in different banks.
        inputs = shared((tile.depth, tile.tokens + 1), "float32")
        rows = shared((tile.depth, tile.rows + 1), "float32")
        sums = registers(tile.sums_x * tile.sums_y, "float32")
        tx, ty = T.bind(thread % tile.threads_x), T.bind(thread // tile.threads_x)
        for i in range(tile.sums_x * tile.sums_y):
            T.buffer_store(sums, T.float32(0), [i])
        with T.serial(ceildiv(job.k, tile.depth)) as step:
            _load_inputs(job, tile, inputs, by, step, thread)
            _load_weights(job, tile, rows, bx, step, thread)
            barrier()
            with T.serial(tile.depth) as column:
                values = [T.bind(rows[column, tx + j * tile.threads_x]) for j in range(tile.sums_x)]
                for i in range(tile.sums_y):
                    x = T.bind(inputs[column, ty * tile.sums_y + i])
                    for j in range(tile.sums_x):
                        at = i * tile.sums_x + j
                        T.buffer_store(sums, sums[at] + x * values[j], [at])
            barrier()
        for i in range(tile.sums_y):
            for j in range(tile.sums_x):
                token = T.bind(by * tile.tokens + ty * tile.sums_y + i)
                row = T.bind(bx * tile.rows + tx + j * tile.threads_x)
                with when(tirx.all(token < job.tokens, row < job.n)):
                    job.finish(token, row, sums[i * tile.sums_x + j])


def _load_inputs(
    job: Multiplication, tile: MatrixTile, inputs: tirx.Buffer, by: tirx.Expr, step: tirx.Expr, thread: tirx.Expr
) -> None:
    """Fill `inputs` (depth, tokens) with the columns of `step`, and with 0 outside of X."""
    depth, threads = tile.depth, tile.threads
    with T.serial(depth * tile.tokens // threads) as i:
        column, token = T.bind(thread % depth), T.bind(thread // depth + i * (threads // depth))
        T.buffer_store(inputs, T.float32(0), [column, token])
        with when(tirx.all(step * depth + column < job.k, by * tile.tokens + token < job.tokens)):
            value = job.input_at(by * tile.tokens + token, step * depth + column)
            T.buffer_store(inputs, value, [column, token])


def _load_weights(
    job: Multiplication, tile: MatrixTile, rows: tirx.Buffer, bx: tirx.Expr, step: tirx.Expr, thread: tirx.Expr
) -> None:
    """Fill `rows` (depth, rows) with the dequantized columns of `step`, and with 0 outside of W."""
    weights, threads = job.weights, tile.threads
    units = tile.depth // weights.per_unit  # of a row, in this step
    with T.serial(units * tile.rows // threads) as i:
        unit, row = T.bind(thread % units), T.bind(thread // units + i * (threads // units))
        column = T.bind(unit * weights.per_unit)
        inside = tirx.all(step * units + unit < weights.units(), bx * tile.rows + row < job.n)
        with T.If(inside):
            with T.Then():
                values = weights.values(bx * tile.rows + row, step * units + unit)
                for j, value in enumerate(values):
                    T.buffer_store(rows, value, [column + j, row])
            with T.Else():
                for j in range(weights.per_unit):
                    T.buffer_store(rows, T.float32(0), [column + j, row])
