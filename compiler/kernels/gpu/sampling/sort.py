"""Sort the probabilities of each row, remembering which token each belongs to."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size, when
from argosy.compiler.kernels.gpu.launch import barrier, ceildiv, shared, workgroup_threads, workgroups
from argosy.compiler.kernels.gpu.traits import GpuTraits, power_of_two_up_to

LOWEST = -3.4e38  # below every probability
_PAIR_BYTES = 8  # a float32 key and an int32 place


def sort_chunk(traits: GpuTraits) -> int:
    """Return how many pairs a workgroup sorts in shared memory, of which it takes a quarter at most."""
    return power_of_two_up_to(traits.shared_bytes // 4 // _PAIR_BYTES)


def sort_threads(traits: GpuTraits) -> int:
    """Return the threads of a sorting workgroup: all of them compare."""
    return workgroup_threads(traits, min(256, sort_chunk(traits) // 2))


def sort_descending(traits: GpuTraits, vocab: int) -> tirx.PrimFunc:
    """Build probs (b, vocab) -> the same in descending order, and the place each came from (b, vocab) int32; the
    earlier of equals first.

    A bitonic network (Batcher 1968) in the form in which the smaller value of every comparison goes to the higher
    place: a row then needs no padding, since a comparison with a place beyond its end changes nothing. Runs of
    `sort_chunk` are sorted and merged in shared memory, longer distances are compared in storage.
    """
    b, chunk, threads = size("b"), sort_chunk(traits), sort_threads(traits)
    doublings = max(0, (ceildiv(vocab, chunk) - 1).bit_length())  # of the sorted runs
    padded = chunk << doublings
    kernel = Kernel("sort_descending")
    with kernel:
        probs = kernel.tensor("probs", (b, vocab), "float32")
        keys = kernel.tensor("sorted_probs", (b, vocab), "float32")
        ids = kernel.tensor("sorted_ids", (b, vocab), "int32")
        with workgroups(padded // chunk, b, threads) as (number, row, tx):
            run = _Run(traits, number, row, tx, vocab)
            run.load(lambda place: probs[row, place], lambda place: place)
            with T.serial(chunk.bit_length() - 1) as stage, T.serial(stage + 1) as step:
                run.compare(T.bind(T.shift_right(T.shift_left(T.int32(1), stage), step)), step == 0)
            run.store(keys, ids)
        if doublings:
            with T.serial(doublings) as stage:
                with T.serial(stage + 1) as step:
                    half = T.bind(T.shift_right(T.shift_left(T.int32(chunk), stage), step))
                    mirrored = T.bind(T.Cast("int32", step == 0))
                    with workgroups(padded // 2 // threads, b, threads) as (bx, row, tx):
                        first, second = _pair(T.bind(bx * threads + tx), half, mirrored == 1)
                        with when(second < vocab):
                            _exchange(keys, ids, [row, first], [row, second])
                with workgroups(padded // chunk, b, threads) as (number, row, tx):
                    run = _Run(traits, number, row, tx, vocab)
                    run.load(lambda place: keys[row, place], lambda place: ids[row, place])
                    with T.serial(chunk.bit_length() - 1) as step:
                        run.compare(T.bind(T.shift_right(T.int32(chunk // 2), step)), None)
                    run.store(keys, ids)
    return kernel.function


def _pair(i: tirx.Expr, half: tirx.Expr, mirrored: tirx.Expr | None) -> tuple[tirx.Var, tirx.Var]:
    """Return the places that comparison i of a step compares: in runs of 2 `half` (a power of two), at that distance
    or mirrored."""
    offset = T.bind(T.bitwise_and(i, half - 1))
    first = T.bind(i * 2 - offset)
    if mirrored is None:
        return first, T.bind(first + half)
    return first, T.bind(first + T.if_then_else(mirrored, half * 2 - 1 - offset * 2, half))


def _exchange(keys: tirx.Buffer, ids: tirx.Buffer, first: list[tirx.Expr], second: list[tirx.Expr]) -> None:
    """Exchange two pairs if the second belongs before the first."""
    mine, other = T.bind(keys[tuple(first)]), T.bind(keys[tuple(second)])
    my_id, other_id = T.bind(ids[tuple(first)]), T.bind(ids[tuple(second)])
    with when(tirx.any(other > mine, tirx.all(other == mine, other_id < my_id))):
        T.buffer_store(keys, other, first)
        T.buffer_store(keys, mine, second)
        T.buffer_store(ids, other_id, first)
        T.buffer_store(ids, my_id, second)


class _Run:
    """`sort_chunk` pairs of a row in shared memory."""

    def __init__(self, traits: GpuTraits, number: tirx.Expr, row: tirx.Expr, tx: tirx.Expr, vocab: int) -> None:
        self.size, self.threads = sort_chunk(traits), sort_threads(traits)
        self.start, self.row, self.tx, self.vocab = T.bind(number * self.size), row, tx, vocab
        self.keys = shared((self.size,), "float32")
        self.ids = shared((self.size,), "int32")

    def load(self, key: Callable[[tirx.Expr], tirx.Expr], place_of: Callable[[tirx.Expr], tirx.Expr]) -> None:
        """Fill the run; beyond the end of the row it holds what sorts last."""
        with T.serial(self.size // self.threads) as i:
            slot = T.bind(i * self.threads + self.tx)
            T.buffer_store(self.keys, T.float32(LOWEST), [slot])
            T.buffer_store(self.ids, T.int32(2**31 - 1), [slot])
            with when(self.start + slot < self.vocab):
                T.buffer_store(self.keys, key(self.start + slot), [slot])
                T.buffer_store(self.ids, place_of(self.start + slot), [slot])
        barrier()

    def compare(self, half: tirx.Expr, mirrored: tirx.Expr | None) -> None:
        """Do one step of the network."""
        with T.serial(self.size // 2 // self.threads) as i:
            first, second = _pair(T.bind(i * self.threads + self.tx), half, mirrored)
            _exchange(self.keys, self.ids, [first], [second])
        barrier()

    def store(self, keys: tirx.Buffer, ids: tirx.Buffer) -> None:
        """Write the run to its places in the row."""
        with T.serial(self.size // self.threads) as i:
            slot = T.bind(i * self.threads + self.tx)
            with when(self.start + slot < self.vocab):
                T.buffer_store(keys, self.keys[slot], [self.row, self.start + slot])
                T.buffer_store(ids, self.ids[slot], [self.row, self.start + slot])
