"""Draw tokens from sorted probabilities."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size, when
from argosy.compiler.kernels.gpu.launch import barrier, ceildiv, registers, shared, workgroup_threads, workgroups
from argosy.compiler.kernels.gpu.traits import GpuTraits


def sample_top_p(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build sorted_probs, sorted_ids (b, vocab), uniform (n,), rows (n,) int32, top_p (b,) -> token ids (n,) int32.

    Sample i is drawn from the most probable tokens of row `rows[i]` that together reach `top_p`: a token is kept if
    those before it do not reach it. `uniform[i]` in [0, 1] picks one of them. Every sample has a workgroup, and every
    thread a stretch of the row.

    Sums are rounded, and a host's number below 1 may be 1 as float32: the sample then lies past every token. So tokens
    of probability 0 (masked ones) are never kept, and such a sample is the last token that is kept.
    """
    b, n, threads = size("b"), size("n"), workgroup_threads(traits)
    stretch = ceildiv(vocab, threads)
    kernel = Kernel("sample_top_p")
    with kernel:
        probs = kernel.tensor("sorted_probs", (b, vocab), "float32")
        ids = kernel.tensor("sorted_ids", (b, vocab), "int32")
        uniform = kernel.tensor("uniform", (n,), "float32")
        rows = kernel.tensor("rows", (n,), "int32")
        top_p = kernel.tensor("top_p", (b,), "float32")
        token = kernel.tensor("token", (n,), "int32")
        with workgroups(n, None, threads) as (sample, _, tx):
            row = T.bind(rows[sample])
            sums = shared((threads,), "float32")  # of each stretch; later, of what top_p keeps of it
            counts = shared((2, threads), "int32")  # kept tokens, and those that the sample is past
            state = registers(4, "float32")  # sum before the stretch, running sum, kept sum, target
            kept = registers(2, "int32")

            def each_probability(step: Callable[[tirx.Expr], None]) -> None:
                with T.serial(stretch) as i:
                    place = T.bind(tx * stretch + i)
                    with when(place < vocab):
                        step(T.bind(probs[row, place]))

            T.buffer_store(state, T.float32(0), [1])
            each_probability(lambda p: T.buffer_store(state, state[1] + p, [1]))
            T.buffer_store(sums, state[1], [tx])
            barrier()
            T.buffer_store(state, T.float32(0), [0])
            with T.serial(threads) as i, when(i < tx):
                T.buffer_store(state, state[0] + sums[i], [0])
            barrier()

            def keep(p: tirx.Expr) -> None:
                with when(tirx.all(state[1] < top_p[row], p > T.float32(0))):
                    T.buffer_store(state, state[2] + p, [2])
                    T.buffer_store(kept, kept[0] + 1, [0])
                T.buffer_store(state, state[1] + p, [1])

            T.buffer_store(state, state[0], [1])
            T.buffer_store(state, T.float32(0), [2])
            T.buffer_store(kept, 0, [0])
            each_probability(keep)
            T.buffer_store(sums, state[2], [tx])
            T.buffer_store(counts, kept[0], [0, tx])
            barrier()
            T.buffer_store(state, T.float32(0), [3])
            with T.serial(threads) as i:
                T.buffer_store(state, state[3] + sums[i], [3])
            T.buffer_store(state, state[3] * uniform[sample], [3])

            def pass_by(p: tirx.Expr) -> None:
                T.buffer_store(state, state[1] + p, [1])
                with when(state[1] <= state[3]):
                    T.buffer_store(kept, kept[1] + 1, [1])

            T.buffer_store(state, state[0], [1])
            T.buffer_store(kept, 0, [1])
            each_probability(pass_by)
            T.buffer_store(counts, kept[1], [1, tx])
            barrier()
            with when(tx == 0):
                T.buffer_store(kept, 0, [0])
                T.buffer_store(kept, 0, [1])
                with T.serial(threads) as i:
                    T.buffer_store(kept, kept[0] + counts[0, i], [0])
                    T.buffer_store(kept, kept[1] + counts[1, i], [1])
                T.buffer_store(token, ids[row, T.max(T.min(kept[1], kept[0] - 1), 0)], [sample])
    return kernel.function
