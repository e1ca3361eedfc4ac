"""Sampling kernels: logits go in; probabilities, their order, and sampled token ids come out.

Each works on b rows of `vocab` numbers. They are what `softmax_with_temperature`, `argsort_probs` and
`sample_with_top_p` are made of (`compiler/sampling.py`).
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size, when
from argosy.compiler.kernels.gpu.launch import THREADS, barrier, ceildiv, registers, shared, workgroups

SOFTMAX_CHUNK = 4096  # logits of a row that one workgroup takes
SORT_CHUNK = 1024  # pairs that one workgroup sorts in its own memory
LOWEST = -3.4e38
COLDEST = 1e-6  # a temperature below is taken for it: all probability is then with the largest logit


def softmax_chunks(vocab: int) -> int:
    """Chunks of a row of logits."""
    return int(ceildiv(vocab, SOFTMAX_CHUNK))


def softmax_partials(vocab: int) -> tirx.PrimFunc:
    """logits (b, 1, vocab), temperature (b,) -> (b, chunks, 2): of each chunk the maximum m, and the sum of
    exp((x - m) / temperature)."""
    b = size("b")
    kernel = Kernel("softmax_partials")
    with kernel:
        logits = kernel.tensor("logits", (b, 1, vocab), "float32")
        temperature = kernel.tensor("temperature", (b,), "float32")
        partials = kernel.tensor("partials", (b, softmax_chunks(vocab), 2), "float32")
        with workgroups(softmax_chunks(vocab), b, THREADS) as (chunk, row, tx):
            values = shared((THREADS,), "float32")
            state = registers(2, "float32")

            def each_logit(step) -> None:
                with T.serial(SOFTMAX_CHUNK // THREADS) as i:
                    place = T.bind(chunk * SOFTMAX_CHUNK + i * THREADS + tx)
                    with when(place < vocab):
                        step(logits[row, 0, place])

            def reduced(combine) -> tirx.Expr:
                """`combine` over the first register of all threads."""
                T.buffer_store(values, state[0], [tx])
                barrier()
                with T.serial(THREADS.bit_length() - 1) as i:
                    half = T.bind(T.shift_right(T.int32(THREADS // 2), i))
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


def softmax_probabilities(vocab: int) -> tirx.PrimFunc:
    """logits (b, 1, vocab), temperature (b,), partials (b, chunks, 2) -> probabilities (b, 1, vocab)."""
    b, chunks = size("b"), softmax_chunks(vocab)
    kernel = Kernel("softmax_probabilities")
    with kernel:
        logits = kernel.tensor("logits", (b, 1, vocab), "float32")
        temperature = kernel.tensor("temperature", (b,), "float32")
        partials = kernel.tensor("partials", (b, chunks, 2), "float32")
        probabilities = kernel.tensor("probabilities", (b, 1, vocab), "float32")
        with workgroups(chunks, b, THREADS) as (chunk, row, tx):
            state = registers(2, "float32")
            scale = T.bind(T.float32(1) / T.max(temperature[row], T.float32(COLDEST)))
            T.buffer_store(state, T.float32(LOWEST), [0])
            with T.serial(chunks) as i:
                T.buffer_store(state, T.max(state[0], partials[row, i, 0]), [0])
            T.buffer_store(state, T.float32(0), [1])
            with T.serial(chunks) as i:
                share = T.exp((partials[row, i, 0] - state[0]) * scale) * partials[row, i, 1]
                T.buffer_store(state, state[1] + share, [1])
            with T.serial(SOFTMAX_CHUNK // THREADS) as i:
                place = T.bind(chunk * SOFTMAX_CHUNK + i * THREADS + tx)
                with when(place < vocab):
                    value = T.exp((logits[row, 0, place] - state[0]) * scale) / state[1]
                    T.buffer_store(probabilities, value, [row, 0, place])
    return kernel.function


def sort_descending(vocab: int) -> tirx.PrimFunc:
    """probs (b, vocab) -> the same in descending order, and where each came from (b, vocab) int32; the earlier of
    equals first.

    A bitonic network (Batcher 1968) in the form in which the smaller value of every comparison goes to the higher
    place: a row then needs no padding, since a comparison with a place beyond its end changes nothing. Runs of
    `SORT_CHUNK` are sorted and merged in shared memory, longer distances are compared in storage.
    """
    b = size("b")
    doublings = max(0, (int(ceildiv(vocab, SORT_CHUNK)) - 1).bit_length())  # of the sorted runs
    padded = SORT_CHUNK << doublings
    kernel = Kernel("sort_descending")
    with kernel:
        probs = kernel.tensor("probs", (b, vocab), "float32")
        keys = kernel.tensor("sorted_probs", (b, vocab), "float32")
        ids = kernel.tensor("sorted_ids", (b, vocab), "int32")
        with workgroups(padded // SORT_CHUNK, b, THREADS) as (chunk, row, tx):
            run = _Run(chunk, row, tx, vocab)
            run.load(lambda place: probs[row, place], lambda place: place)
            with T.serial(SORT_CHUNK.bit_length() - 1) as stage, T.serial(stage + 1) as step:
                run.compare(T.bind(T.shift_right(T.shift_left(T.int32(1), stage), step)), step == 0)
            run.store(keys, ids)
        if doublings:
            with T.serial(doublings) as stage:
                with T.serial(stage + 1) as step:
                    half = T.bind(T.shift_right(T.shift_left(T.int32(SORT_CHUNK), stage), step))
                    mirrored = T.bind(T.Cast("int32", step == 0))
                    with workgroups(padded // 2 // THREADS, b, THREADS) as (bx, row, tx):
                        first, second = _pair(T.bind(bx * THREADS + tx), half, mirrored == 1)
                        with when(second < vocab):
                            mine, other = T.bind(keys[row, first]), T.bind(keys[row, second])
                            my_id, other_id = T.bind(ids[row, first]), T.bind(ids[row, second])
                            with when(_is_before(other, other_id, mine, my_id)):
                                T.buffer_store(keys, other, [row, first])
                                T.buffer_store(keys, mine, [row, second])
                                T.buffer_store(ids, other_id, [row, first])
                                T.buffer_store(ids, my_id, [row, second])
                with workgroups(padded // SORT_CHUNK, b, THREADS) as (chunk, row, tx):
                    run = _Run(chunk, row, tx, vocab)
                    run.load(lambda place: keys[row, place], lambda place: ids[row, place])
                    with T.serial(SORT_CHUNK.bit_length() - 1) as step:
                        run.compare(T.bind(T.shift_right(T.int32(SORT_CHUNK // 2), step)), None)
                    run.store(keys, ids)
    return kernel.function


def _pair(i: tirx.Expr, half: tirx.Expr, mirrored: tirx.Expr | None) -> tuple[tirx.Var, tirx.Var]:
    """The places that comparison i of a step compares: in runs of 2 `half` (a power of two), at that distance or
    mirrored."""
    offset = T.bind(T.bitwise_and(i, half - 1))
    first = T.bind(i * 2 - offset)
    if mirrored is None:
        return first, T.bind(first + half)
    return first, T.bind(first + T.if_then_else(mirrored, half * 2 - 1 - offset * 2, half))


def _is_before(key: tirx.Expr, place: tirx.Expr, other: tirx.Expr, other_place: tirx.Expr) -> tirx.Expr:
    return tirx.any(key > other, tirx.all(key == other, place < other_place))


class _Run:
    """`SORT_CHUNK` pairs of a row in shared memory."""

    def __init__(self, chunk: tirx.Expr, row: tirx.Expr, tx: tirx.Expr, vocab: int) -> None:
        self.start, self.row, self.tx, self.vocab = T.bind(chunk * SORT_CHUNK), row, tx, vocab
        self.keys = shared((SORT_CHUNK,), "float32")
        self.ids = shared((SORT_CHUNK,), "int32")

    def load(self, key, place_of) -> None:
        """Fill it; beyond the end of the row it holds what sorts last."""
        with T.serial(SORT_CHUNK // THREADS) as i:
            slot = T.bind(i * THREADS + self.tx)
            T.buffer_store(self.keys, T.float32(LOWEST), [slot])
            T.buffer_store(self.ids, T.int32(2**31 - 1), [slot])
            with when(self.start + slot < self.vocab):
                T.buffer_store(self.keys, key(self.start + slot), [slot])
                T.buffer_store(self.ids, place_of(self.start + slot), [slot])
        barrier()

    def compare(self, half: tirx.Expr, mirrored: tirx.Expr | None) -> None:
        """One step of the network."""
        with T.serial(SORT_CHUNK // 2 // THREADS) as i:
            first, second = _pair(T.bind(i * THREADS + self.tx), half, mirrored)
            mine, other = T.bind(self.keys[first]), T.bind(self.keys[second])
            my_id, other_id = T.bind(self.ids[first]), T.bind(self.ids[second])
            with when(_is_before(other, other_id, mine, my_id)):
                T.buffer_store(self.keys, other, [first])
                T.buffer_store(self.keys, mine, [second])
                T.buffer_store(self.ids, other_id, [first])
                T.buffer_store(self.ids, my_id, [second])
        barrier()

    def store(self, keys: tirx.Buffer, ids: tirx.Buffer) -> None:
        """Write it to where it was read."""
        with T.serial(SORT_CHUNK // THREADS) as i:
            slot = T.bind(i * THREADS + self.tx)
            with when(self.start + slot < self.vocab):
                T.buffer_store(keys, self.keys[slot], [self.row, self.start + slot])
                T.buffer_store(ids, self.ids[slot], [self.row, self.start + slot])


def sample_top_p(vocab: int) -> tirx.PrimFunc:
    """sorted_probs, sorted_ids (b, vocab), uniform (n,), rows (n,) int32, top_p (b,) -> token ids (n,) int32.

    Sample i is drawn from row `rows[i]`, from the most probable tokens that together reach `top_p`: from a token on
    if those before it do not reach it. `uniform[i]` in [0, 1] says which. One workgroup for each sample; a thread
    takes a stretch of the row.

    Sums are rounded, and a host's number below 1 may be 1 as float32: then the sample lies past every token. So tokens
    of probability 0 (masked ones) are never kept, and it is the last of those that are.
    """
    b, n = size("b"), size("n")
    stretch = int(ceildiv(vocab, THREADS))
    kernel = Kernel("sample_top_p")
    with kernel:
        probs = kernel.tensor("sorted_probs", (b, vocab), "float32")
        ids = kernel.tensor("sorted_ids", (b, vocab), "int32")
        uniform = kernel.tensor("uniform", (n,), "float32")
        rows = kernel.tensor("rows", (n,), "int32")
        top_p = kernel.tensor("top_p", (b,), "float32")
        token = kernel.tensor("token", (n,), "int32")
        with workgroups(n, None, THREADS) as (sample, _, tx):
            row = T.bind(rows[sample])
            sums = shared((THREADS,), "float32")  # of each stretch; later, of what top_p keeps of it
            counts = shared((2, THREADS), "int32")  # kept tokens, and those that the sample is past
            state = registers(4, "float32")  # sum before the stretch, running sum, kept sum, target
            kept = registers(2, "int32")

            def each_probability(step) -> None:
                with T.serial(stretch) as i:
                    place = T.bind(tx * stretch + i)
                    with when(place < vocab):
                        step(T.bind(probs[row, place]))

            T.buffer_store(state, T.float32(0), [1])
            each_probability(lambda p: T.buffer_store(state, state[1] + p, [1]))
            T.buffer_store(sums, state[1], [tx])
            barrier()
            T.buffer_store(state, T.float32(0), [0])
            with T.serial(THREADS) as i, when(i < tx):
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
            with T.serial(THREADS) as i:
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
                with T.serial(THREADS) as i:
                    T.buffer_store(kept, kept[0] + counts[0, i], [0])
                    T.buffer_store(kept, kept[1] + counts[1, i], [1])
                T.buffer_store(token, ids[row, T.max(T.min(kept[1], kept[0] - 1), 0)], [sample])
    return kernel.function
