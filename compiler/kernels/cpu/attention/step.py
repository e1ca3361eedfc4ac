"""Find whole sequences in the runtime's index arrays, so that one call attends to all of each.

The runtime plans a step in up to two depths (docs/notes/kv_cache.md), and calls a kernel for each of them with the
pages of that depth alone. If the step prefills, these calls do not see the new tokens either: another kernel attends to
those before they are in pages. Sums over such parts depend on where the parts end, so the same token would get other
bits in another step. Instead, **one call attends to whole sequences, and the others do nothing** but mark their rows
as hidden (LSE NEVER), which merging leaves out:

| a sequence | attended to by |
|---|---|
| without cached tokens, in a step that prefills | the kernel of new tokens |
| every other | the last call with pages, after it has put the new tokens into their pages |

Two facts about the runtime make that possible. All index arrays of a step lie in one buffer, one after the other, each
rounded up to 4 elements, in the order of `SyncAuxArrayToDevice`:

    query positions; by depth: q_indptr; by depth: page_indptr; by depth: page ids;
    [with sliding layers, by depth: page_indptr; by depth: page ids, both of the last pages only;]
    by depth: used slots of the last page [, length_info of sliding layers];
    by depth: k_start [, k_start of sliding layers];
    q_indptr of the sequences; their starts; slots of the new tokens; two unused arrays of n elements;
    if the new tokens are trees: nodes (n, 2) and node_indptr

And the two unused arrays, which are for moving caches between machines, are -1 at the start of a step. The kernel of
new tokens leaves the addresses of the new keys and values there (`leave_new_tokens`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvm import ir, tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import parallel_for, scratch, view, when
from argosy.compiler.kernels.kv.scores import NEVER
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

if TYPE_CHECKING:
    from argosy.compiler.kernels.kv.arguments import RaggedArguments, RaggedTreeArguments
    from argosy.compiler.kernels.kv.cached import CachedPages

INDEX_ELEMENTS = 32 << 20  # of the runtime's index buffer
OTHER_LAYOUT = "the index arrays of the KV cache are not laid out as this kernel expects"
NOTHING, TAKEN = -1, -2  # instead of an address: there are no new tokens, or they are in their pages already
SERIAL_ROWS = 256  # up to here, waking the thread pool costs more than it saves
# Of a TVMFFIAny at some address, its value, 8 bytes on: the way to store a pointer, which is not a number in TIR.
_ANY_VALUE, _ANY_OFFSET = 15, 2


def rounded(count: tirx.Expr) -> tirx.Expr:
    """Return the elements that an index array of `count` elements takes."""
    return (count + 3) // 4 * 4


class Indices:
    """An index array: the elements of `buffer` from `start` on."""

    def __init__(self, buffer: tirx.Buffer, start: tirx.Expr) -> None:
        self.buffer = buffer
        self.start = start

    def __getitem__(self, i: tirx.Expr | int) -> tirx.Expr:
        return self.buffer[self.start + i]


class NewTokens:
    """The place, in the index buffer, at which the kernel of new tokens leaves their keys and values for others."""

    def __init__(self, index: tirx.Buffer, slots: tirx.Expr, n: tirx.Expr) -> None:
        self.index = index
        self.n = n
        self.slots = Indices(index, slots)
        self.keys = slots + rounded(n)
        self.values = self.keys + rounded(n)
        self.is_tree = self.keys + 2  # every array has space for 4 elements
        self.nodes = Indices(index, self.values + rounded(n))

    def leave(self, k: tirx.Buffer, v: tirx.Buffer, tree: bool) -> None:
        """Leave the addresses of k and v (n, kv_heads, d)."""
        for buffer, place in ((k, self.keys), (v, self.values)):
            any_value = T.address_of(self.index[place - _ANY_OFFSET])
            T.evaluate(tirx.tvm_struct_set(any_value, 0, _ANY_VALUE, T.address_of(buffer[0, 0, 0])))
        T.buffer_store(self.index, int(tree), [self.is_tree])

    def are_there(self) -> tirx.Expr:
        """Return whether new tokens were left, and are not in their pages yet."""
        return T.And(self.index[self.keys] != NOTHING, self.index[self.keys] != TAKEN)

    def are_taken(self) -> tirx.Expr:
        """Return whether new tokens were left, and are in their pages."""
        return self.index[self.keys] == TAKEN

    def take(self, shape: AttentionShape) -> tuple[tirx.Buffer, tirx.Buffer]:
        """Return the k and v (n, kv_heads, d) that were left."""
        tensors = []
        for place in (self.keys, self.values):
            any_value = T.address_of(self.index[place - _ANY_OFFSET])
            fields = [any_value, tirx.const(0, "int32"), tirx.const(_ANY_VALUE, "int32")]
            pointer = ir.PointerType(ir.PrimType(shape.dtype))
            data = T.bind(ir.Call("tirx.tvm_struct_get", fields, ret_ty=pointer))
            extents = (self.n, shape.kv_heads, shape.head_dim)
            tensors.append(T.decl_buffer(extents, shape.dtype, data=data, layout=None))
        return tensors[0], tensors[1]

    def mark_taken(self) -> None:
        """Record that the new tokens are in their pages."""
        T.buffer_store(self.index, TAKEN, [self.keys])


def leave_new_tokens(args: RaggedArguments | RaggedTreeArguments, tree: bool) -> None:
    """Leave the keys and values of the new tokens for the kernels that attend to pages."""
    index = view(args.q_positions, (INDEX_ELEMENTS,))
    slots = args.kv_indptr.elem_offset + rounded(args.batch + 1) + rounded(args.batch)
    NewTokens(index, T.bind(slots), args.n).leave(args.k, args.v, tree)


def hide(lse: tirx.Buffer, rows: tirx.Expr, heads: int) -> None:
    """Mark every row as one that saw no key."""
    parallel_for(rows * heads, SERIAL_ROWS, lambda i: T.buffer_store(lse, T.float32(NEVER), [i // heads, i % heads]))


class Step:
    """The sequences of a step: `batch` of them, and the pages of each from its first token on.

    Arguments: those of an attention kernel that describe pages; the number n of new tokens in the step; and the number
    of entries in the arrays of this call's depth. `continues`: whether new tokens are not in their pages yet.
    """

    def __init__(self, shape: AttentionShape, cache: CachedPages, n: tirx.Expr, entries: tirx.Expr) -> None:
        self.n = n
        index = self.index = view(cache.q_positions, (INDEX_ELEMENTS,))
        self._bound = scratch(1, "int32")
        slides = shape.window is not None  # whether the cache has the arrays of sliding layers
        facts = scratch(20, "int32")
        known = 0

        def fact(value: tirx.Expr) -> tirx.Expr:
            """Keep a number in a buffer: bound to variables, such long expressions take seconds to compile."""
            nonlocal known
            T.buffer_store(facts, value, [known])
            known += 1
            return facts[known - 1]

        def info(count: tirx.Expr) -> tirx.Expr:
            """Return the size of the arrays that describe lengths, for one depth."""
            return rounded(count) + (rounded(3 * count) if slides else 0)

        # With one depth, what lies between the two arguments is the rest of that depth's array of lengths alone.
        two = fact(T.Cast("int32", cache.k_start.elem_offset - cache.length_info.elem_offset != info(entries)))
        first = fact(rounded(n))
        entries_0 = fact(self._entries(Indices(index, first), entries))
        second = first + rounded(entries_0 + 1)
        batch = self.batch = fact(entries_0)
        with when(two != 0):
            T.buffer_store(facts, self._entries(Indices(index, second), n), [known - 1])
        indptr = fact(rounded(entries_0 + 1) + two * rounded(batch + 1))
        pages = Indices(index, fact(second + two * rounded(batch + 1)))
        later_pages = Indices(index, fact(pages.start + rounded(entries_0 + 1)))
        ids = Indices(index, fact(pages.start + indptr))
        later_ids = fact(ids.start + rounded(pages[entries_0]))
        later_count = fact(T.if_then_else(two != 0, later_pages[batch], 0))
        end = fact(later_ids + two * rounded(later_count))
        is_first = fact(T.Cast("int32", cache.indptr.elem_offset == (end if cache.sliding else pages.start)))
        starts = end + info(entries_0) + two * info(batch)
        if slides:
            last = Indices(index, end)
            later_last = T.if_then_else(two != 0, last[rounded(entries_0 + 1) + batch], 0)
            starts = starts + indptr + rounded(last[entries_0]) + two * rounded(later_last)
        starts = fact(starts)
        kinds = 2 if slides else 1
        self.q_indptr = Indices(index, fact(starts + kinds * (rounded(entries_0) + two * rounded(batch))))
        self.new = NewTokens(index, fact(self.q_indptr.start + rounded(batch + 1) + rounded(batch)), n)
        self.continues = fact(T.Cast("int32", self.new.are_there()))
        self._is_last = fact(T.Cast("int32", is_first == T.Cast("int32", later_count == 0)))
        mine = starts + (1 - is_first) * kinds * rounded(entries_0)
        if cache.sliding:
            mine = mine + T.if_then_else(is_first != 0, rounded(entries_0), rounded(batch))
        with T.Assert(mine == cache.k_start.elem_offset, OTHER_LAYOUT):
            T.evaluate(0)

        # Page p of sequence b is ids[p] from first[b] on while p < joint[b], else from rest[b] on while p < held[b].
        self.first, self.joint, self.rest, self.held = (scratch(n, "int32") for _ in range(4))
        self.active = scratch(n, "int32")  # whether this call attends to the sequence
        T.buffer_store(self._bound, 0, [0])
        with T.serial(batch) as b:
            with when(T.And(b > 0, index[first + self._bound[0] + 1] <= self.q_indptr[b])):
                T.buffer_store(self._bound, self._bound[0] + 1, [0])
            entry = T.bind(self._bound[0])
            joint = T.bind(pages[entry + 1] - pages[entry])
            T.buffer_store(self.active, T.if_then_else(self.continues != 0, self.cached(b), 1), [b])
            T.buffer_store(self.first, ids.start + pages[entry], [b])
            T.buffer_store(self.joint, joint, [b])
            T.buffer_store(self.rest, 0, [b])
            T.buffer_store(self.held, joint, [b])
            with when(two != 0):
                T.buffer_store(self.rest, later_ids + later_pages[b] - joint, [b])
                T.buffer_store(self.held, joint + later_pages[b + 1] - later_pages[b], [b])

    @property
    def is_last(self) -> tirx.Expr:
        """Whether this call is the one that attends."""
        return self._is_last != 0

    def _entries(self, indptr: Indices, limit: tirx.Expr) -> tirx.Expr:
        """Return the number of entries of an indptr: up to the first element that is n."""
        T.buffer_store(self._bound, 0, [0])
        with T.serial(limit) as i, when(T.And(self._bound[0] == 0, indptr[i + 1] == self.n)):
            T.buffer_store(self._bound, i + 1, [0])
        return self._bound[0]

    def cached(self, b: tirx.Expr) -> tirx.Expr:
        """Return the number of tokens of sequence b before the new ones, in a step that prefills."""
        return self.index[self.q_indptr[b]]

    def page(self, b: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
        """Return page number p of sequence b, counted from its first token on.

        If new tokens are not in the pages that the runtime lists, their slots tell the pages.
        """
        new = self.new.slots[self.q_indptr[b] + p * PAGE_SIZE - self.cached(b)] // PAGE_SIZE
        held = T.if_then_else(p < self.joint[b], self.index[self.first[b] + p], self.index[self.rest[b] + p])
        return T.if_then_else(p < self.held[b], held, new)

    def keys(self, shape: AttentionShape, b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
        """Return the place, in the flattened pages, of the keys of a KV head in page number p of sequence b."""
        return self.page(b, p) * shape.page_elements + head * shape.head_elements
