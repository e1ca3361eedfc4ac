"""Turn logits into probabilities: one kernel sums chunks of each row, a second one divides by the whole sum."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size, when
from argosy.compiler.kernels.gpu.launch import barrier, ceildiv, registers, shared, workgroup_threads, workgroups
from argosy.compiler.kernels.gpu.traits import GpuTraits

LOGITS_PER_THREAD = 16
LOWEST = -3.4e38  # above the logit of a masked token (logits.py), so that a masked chunk adds nothing to a sum
COLDEST = 1e-6  # the lowest temperature that is divided by: all probability is then with the largest logit


def softmax_chunks(traits: GpuTraits, vocab: int) -> int:
    """Return into how many chunks a row of logits is cut, one for each workgroup."""
    return ceildiv(vocab, _chunk(traits))


def softmax_partials(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build logits (b, 1, vocab), temperature (b,) -> (b, chunks, 2): of every chunk the maximum m, and the sum of
    exp((x - m) / temperature)."""
    threads, chunks, b = workgroup_threads(traits), softmax_chunks(traits, vocab), size("b")
    kernel = Kernel("softmax_partials")
    with kernel:
        logits = kernel.tensor("logits", (b, 1, vocab), "float32")
        temperature = kernel.tensor("temperature", (b,), "float32")
        partials = kernel.tensor("partials", (b, chunks, 2), "float32")
        with workgroups(chunks, b, threads) as (chunk, row, tx):
            values = shared((threads,), "float32")
            state = registers(2, "float32")

            def each_logit(step: Callable[[tirx.Expr], None]) -> None:
                _each_place(traits, vocab, chunk, tx, lambda place: step(logits[row, 0, place]))

            def reduced(combine: Callable[[tirx.Expr, tirx.Expr], tirx.Expr]) -> tirx.Expr:
                """Return `combine` over the first register of all threads."""
                T.buffer_store(values, state[0], [tx])
                barrier()
                with T.serial(threads.bit_length() - 1) as i:
                    half = T.bind(T.shift_right(T.int32(threads // 2), i))
                    with when(tx < half):
                        T.buffer_store(values, combine(values[tx], values[tx + half]), [tx])
                    barrier()
                return values[0]

            T.buffer_store(state, T.float32(LOWEST), [0])
            each_logit(lambda x: T.buffer_store(state, T.max(state[0], x), [0]))
            T.buffer_store(state, reduced(T.max), [1])
            barrier()
            scale = T.bind(T.float32(1) / T.max(temperature[row], T.float32(COLDEST)))
            T.buffer_store(state, T.float32(0), [0])
            each_logit(lambda x: T.buffer_store(state, state[0] + T.exp((x - state[1]) * scale), [0]))
            total = reduced(lambda x, y: x + y)
            with when(tx == 0):
                T.buffer_store(partials, state[1], [row, chunk, 0])
                T.buffer_store(partials, total, [row, chunk, 1])
    return kernel.function


def softmax_probabilities(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build logits (b, 1, vocab), temperature (b,), partials (b, chunks, 2) -> probabilities (b, 1, vocab)."""
    b, chunks = size("b"), softmax_chunks(traits, vocab)
    kernel = Kernel("softmax_probabilities")
    with kernel:
        logits = kernel.tensor("logits", (b, 1, vocab), "float32")
        temperature = kernel.tensor("temperature", (b,), "float32")
        partials = kernel.tensor("partials", (b, chunks, 2), "float32")
        probabilities = kernel.tensor("probabilities", (b, 1, vocab), "float32")
        with workgroups(chunks, b, workgroup_threads(traits)) as (chunk, row, tx):
            state = registers(2, "float32")
            scale = T.bind(T.float32(1) / T.max(temperature[row], T.float32(COLDEST)))
            T.buffer_store(state, T.float32(LOWEST), [0])
            with T.serial(chunks) as i:
                T.buffer_store(state, T.max(state[0], partials[row, i, 0]), [0])
            T.buffer_store(state, T.float32(0), [1])
            with T.serial(chunks) as i:
                share = T.exp((partials[row, i, 0] - state[0]) * scale) * partials[row, i, 1]
                T.buffer_store(state, state[1] + share, [1])

            def divide(place: tirx.Expr) -> None:
                value = T.exp((logits[row, 0, place] - state[0]) * scale) / state[1]
                T.buffer_store(probabilities, value, [row, 0, place])

            _each_place(traits, vocab, chunk, tx, divide)
    return kernel.function


def _chunk(traits: GpuTraits) -> int:
    """Return how many logits of a row a workgroup takes."""
    return LOGITS_PER_THREAD * workgroup_threads(traits)


def _each_place(
    traits: GpuTraits, vocab: int, chunk: tirx.Expr, tx: tirx.Expr, step: Callable[[tirx.Expr], None]
) -> None:
    """Run `step` on this thread's places of a chunk."""
    with T.serial(LOGITS_PER_THREAD) as i:
        place = T.bind(chunk * _chunk(traits) + i * workgroup_threads(traits) + tx)
        with when(place < vocab):
            step(place)
