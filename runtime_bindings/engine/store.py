"""Keep the state of sequences between forward passes, and account for its memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from argosy.runtime_bindings.engine.tvm_runtime import load_tvm
from argosy.support.errors import ContextFullError


class SequenceStore(Protocol):
    """Sequences, and the memory that holds what the model remembers of their tokens. Callers choose the ids."""

    @property
    def capacity(self) -> int:
        """The tokens that a sequence can have if there is no other."""
        ...

    def add(self, sequence: int) -> None:
        """Add an empty sequence."""

    def fork(self, parent: int, child: int, length: int) -> None:
        """Add a sequence that shares the first `length` tokens of `parent`."""

    def remove(self, sequence: int) -> None:
        """Remove a sequence, and free its memory."""

    def truncate(self, sequence: int, length: int) -> int:
        """Shorten a sequence to `length` tokens or fewer, and return how many are left.

        Keys and values can be cut anywhere. Recurrent state cannot go back a token: a store may have to fall back to
        an earlier snapshot, or to nothing. The caller computes the tokens from there on again. A sequence that is
        short enough stays as it is.
        """
        ...

    def length(self, sequence: int) -> int:
        """Return the number of tokens that the store holds of a sequence."""
        ...

    def fits(self, growth: Sequence[tuple[int, int]]) -> bool:
        """Return whether every (sequence, count) can grow by `count` tokens, all of them together."""
        ...


class KVStore:
    """A `SequenceStore` over TVM's paged KV cache.

    Lengths and free pages are read from the cache each time, so that they hold after an interrupt as well. The cache's
    own check for pages comes too late: it counts a step's tokens before it finds no page for them.

    Not thread-safe, as is the cache: an `Engine` keeps threads apart.
    """

    def __init__(self, state: Any, page_size: int) -> None:
        function = load_tvm().get_global_func
        self.state = state
        self.page_size = page_size
        self._add = function("vm.builtin.kv_state_add_sequence")
        self._fork = function("vm.builtin.kv_state_fork_sequence")
        self._remove = function("vm.builtin.kv_state_remove_sequence")
        self._pop = function("vm.builtin.kv_state_popn")
        self._begin = function("vm.builtin.kv_state_begin_forward")
        self._end = function("vm.builtin.kv_state_end_forward")
        self._length = function("vm.builtin.attention_kv_cache_get_sequence_length")
        self._free_pages = function("vm.builtin.attention_kv_cache_get_num_available_pages")
        self._clear = function("vm.builtin.kv_state_clear")
        self._shape = load_tvm().runtime.ShapeTuple
        self._sequences: set[int] = set()
        self._capacity = self.free_pages() * page_size

    @property
    def capacity(self) -> int:
        return self._capacity

    def add(self, sequence: int) -> None:
        self._add(self.state, sequence)
        self._sequences.add(sequence)

    def fork(self, parent: int, child: int, length: int) -> None:
        assert 0 <= length <= self.length(parent), (parent, length)
        if length == 0:
            self.add(child)  # the cache cannot fork an empty block
            return
        if length % self.page_size and not self.free_pages():
            raise ContextFullError("a fork needs a page of the KV cache, and `0` are free", "end another request")
        self._fork(self.state, parent, child, length)
        self._sequences.add(child)

    def remove(self, sequence: int) -> None:
        self._remove(self.state, sequence)
        self._sequences.discard(sequence)

    def truncate(self, sequence: int, length: int) -> int:
        held = self.length(sequence)
        assert length >= 0, (sequence, length)
        if held > length:
            self._pop(self.state, sequence, held - length)
        return min(held, length)

    def length(self, sequence: int) -> int:
        return int(self._length(self.state, sequence))

    def free_pages(self) -> int:
        """Return the number of pages that no sequence holds."""
        return int(self._free_pages(self.state))

    def fits(self, growth: Sequence[tuple[int, int]]) -> bool:
        return sum(self._new_pages(sequence, count) for sequence, count in growth) <= self.free_pages()

    def _new_pages(self, sequence: int, count: int) -> int:
        """Count the pages that `count` more tokens take.

        Only the last page of a sequence may be partly filled, after forks as well: they copy a shared partial page.
        """
        length = self.length(sequence)
        return -(-(length + count) // self.page_size) - -(-length // self.page_size)

    @contextmanager
    def forward(self, sequences: Sequence[int], counts: Sequence[int]) -> Iterator[None]:
        """Run a forward pass that appends `counts[i]` tokens to `sequences[i]` within this context.

        If the pass is cut off, the sequences are cut back to what they were: their pages hold keys for some layers
        and garbage for others. If not even that works, all sequences become empty.
        """
        assert self.fits(list(zip(sequences, counts, strict=True))), "the scheduler must ask fits() first"
        before = [self.length(sequence) for sequence in sequences]
        try:
            self._begin(self.state, self._shape(sequences), self._shape(counts))
            yield
            self._end(self.state)
        except BaseException:
            try:
                for sequence, length in zip(sequences, before, strict=True):
                    self.truncate(sequence, length)
            except Exception:
                self._empty()
            raise

    def _empty(self) -> None:
        """Drop what the cache holds, and keep the sequences, of no token."""
        self._clear(self.state)
        for sequence in self._sequences:
            self._add(self.state, sequence)
