"""Attend from the nodes of token trees, several guessed continuations per sequence.

The runtime numbers the nodes of a tree depth first and passes, for each node, its number and the end of its subtree:
node j is an ancestor of node i, or i itself, if first[j] <= first[i] < end[j].

A node sees the sequence before the tree and its ancestors. To get the bits that it would have as a plain token, its
ancestors are gathered to the positions that they would have. So nodes share no work, unlike the tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, block, flattened, scratch, when
from argosy.compiler.kernels.cpu.attention.chunk import attend_blocks
from argosy.compiler.kernels.cpu.attention.pages import key_slot, value_slot
from argosy.compiler.kernels.cpu.attention.ragged import PackedChunk, refuse_long_chunks
from argosy.compiler.kernels.cpu.attention.step import Step, hide, leave_new_tokens
from argosy.compiler.kernels.cpu.attention.tile import KeyBlock, Tiles, Totals, copy_page_into
from argosy.compiler.kernels.kv.arguments import PagedArguments, PagedTreeArguments, RaggedTreeArguments
from argosy.compiler.kernels.kv.scores import NEVER
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

MAX_NODES = 256  # of a tree; the runtime's limit

# Sequence and number -> where something is kept: the page of page p before the tree, or page and slot of node j.
PageOf = Callable[[tirx.Expr, tirx.Expr], tirx.Expr]
SlotOf = Callable[[tirx.Expr, tirx.Expr], tuple[tirx.Expr, tirx.Expr]]
# Node and field (0: number, 1: end of its subtree) -> the value.
NumberAt = Callable[[tirx.Expr, int], tirx.Expr]


class Forest:
    """The trees of a step: sequence b has `past(b)` tokens before its tree.

    The nodes of its tree are `first_node(b)` up to the first of sequence b + 1. The queries are the last nodes.
    """

    def __init__(
        self,
        shape: AttentionShape,
        args: RaggedTreeArguments | PagedTreeArguments | PagedArguments,
        flat: tirx.Buffer,
        numbers: NumberAt,
        first_node: Callable[[tirx.Expr], tirx.Expr],
        past: Callable[[tirx.Expr], tirx.Expr],
        page_of: PageOf,
        slot_of: SlotOf,
    ) -> None:
        self.shape = shape
        self.args = args
        self.flat = flat
        self.numbers = numbers
        self.first_node = first_node
        self.past = past
        self.page_of = page_of
        self.slot_of = slot_of

    def attend(
        self,
        q_indptr: Callable[[tirx.Expr], tirx.Expr],
        batch: tirx.Expr,
        active: Callable[[tirx.Expr], tirx.Expr],
        window: int | None,
    ) -> None:
        """Compute the attention of every query of the sequences that are `active`; hide the others."""
        shape, args = self.shape, self.args
        rows, group, kv_heads = shape.decode_rows, shape.group, shape.kv_heads
        tiles_per_group = -(-group // rows)
        owner = scratch(args.n, "int32")
        with T.serial(batch) as b, T.serial(q_indptr(b), q_indptr(b + 1)) as i:
            T.buffer_store(owner, b, [i])
        with T.parallel(args.n * kv_heads * tiles_per_group) as u, block("node"):
            token = T.bind(u // (kv_heads * tiles_per_group))
            head = T.bind(u // tiles_per_group % kv_heads)
            first_row = T.bind(u % tiles_per_group * rows)
            b = T.bind(owner[token])

            def query_head(r: tirx.Expr) -> tirx.Expr:
                return head * group + T.min(first_row + r, group - 1)

            with T.If(active(b)):
                with T.Then():
                    path, length = self._path(b, T.bind(self.first_node(b + 1) - q_indptr(b + 1) + token))
                    past = T.bind(self.past(b))
                    end = T.bind(past + length)
                    low = T.int32(0) if window is None else T.bind(T.max(end - window, 0))
                    tiles = Tiles(shape, rows, shape.block, Totals(shape, rows))
                    tiles.start(0)
                    with T.serial(rows) as r:
                        tiles.load_query(0, r, args.q, token, query_head(r), args.scale, low, end)

                    def copy_page(copied: KeyBlock, p: tirx.Expr, j: tirx.Expr) -> None:
                        with T.If((p + 1) * PAGE_SIZE <= past):
                            with T.Then():
                                page = self.page_of(b, p) * shape.page_elements
                                copy_page_into(copied, j, shape, self.flat, T.bind(page + head * shape.head_elements))
                            with T.Else():
                                self._gather(copied, p, j, b, head, past, end, path)

                    attend_blocks(tiles, 1, low, end, copy_page)
                    with T.serial(rows) as r, when(first_row + r < group):
                        tiles.totals.finish(0, r, args.output, args.lse, token, query_head(r))
                with T.Else(), T.serial(rows) as r:
                    T.buffer_store(args.lse, T.float32(NEVER), [token, query_head(r)])

    def _path(self, b: tirx.Expr, node: tirx.Expr) -> tuple[tirx.Buffer, tirx.Expr]:
        """List the ancestors of a node, and the node, by their places in the tree; return also their number."""
        path, length = scratch(MAX_NODES, "int32"), scratch(1, "int32")
        first = T.bind(self.first_node(b))
        number = T.bind(self.numbers(node, 0))
        T.buffer_store(length, 0, [0])
        with T.serial(node + 1 - first) as j:
            starts = self.numbers(first + j, 0) <= number
            with when(T.And(starts, number < self.numbers(first + j, 1))):
                T.buffer_store(path, j, [length[0]])
                T.buffer_store(length, length[0] + 1, [0])
        return path, T.bind(length[0])

    def _gather(
        self,
        copied: KeyBlock,
        p: tirx.Expr,
        j: tirx.Expr,
        b: tirx.Expr,
        head: tirx.Expr,
        past: tirx.Expr,
        end: tirx.Expr,
        path: tirx.Buffer,
    ) -> None:
        """Fill page j of a block with the tokens at the positions of page p: of the sequence, then of the path."""
        shape = self.shape
        with T.serial(T.min(PAGE_SIZE, end - p * PAGE_SIZE)) as i:
            position = T.bind(p * PAGE_SIZE + i)
            source = scratch(2, "int32")
            with T.If(position < past):
                with T.Then():
                    T.buffer_store(source, self.page_of(b, p), [0])
                    T.buffer_store(source, i, [1])
                with T.Else():
                    for field, value in enumerate(self.slot_of(b, T.bind(path[position - past]))):
                        T.buffer_store(source, value, [field])
            page, slot = T.bind(source[0]), T.bind(source[1])
            with T.serial(shape.head_dim) as x:
                key = T.Cast("float32", self.flat[key_slot(shape, page, head, slot, x)])
                T.buffer_store(copied.buffer, key, [copied.keys(j) + x * PAGE_SIZE + i])
                value = T.Cast("float32", self.flat[value_slot(shape, page, head, slot, x)])
                T.buffer_store(copied.buffer, value, [copied.values(j) + i * shape.head_dim + x])


def ragged_tree(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the attention of new trees to themselves, for q (n, heads, d) and k, v (n, kv_heads, d), tree by tree.

    Trees that continue a sequence are left to the kernel that sees its pages (`attend_new_trees`).
    """
    with Kernel("attention_tree_ragged") as kernel:
        args = RaggedTreeArguments(kernel, shape)
        refuse_long_chunks(shape, args)
        leave_new_tokens(args, tree=True)
        chunk = PackedChunk(shape, args)

        def slot_of(b: tirx.Expr, j: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
            return chunk.pages.first_tile[b] + j // PAGE_SIZE, j % PAGE_SIZE

        def indptr(b: tirx.Expr) -> tirx.Expr:
            return args.q_indptr[b]

        def no_page(b: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
            return T.int32(0)

        forest = Forest(
            shape, args, chunk.flat, lambda i, field: args.nodes[i, field], indptr, lambda b: T.int32(0), no_page,
            slot_of,
        )  # fmt: skip
        forest.attend(indptr, args.batch, chunk.is_whole, None)
    return kernel.function


def attend_new_trees(shape: AttentionShape, args: PagedArguments, step: Step, flat: tirx.Buffer) -> None:
    """Compute the attention of new trees, whose nodes are in their slots, to their whole sequences."""

    def slot_of(b: tirx.Expr, j: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
        slot = step.new.slots[step.q_indptr[b] + j]
        return slot // PAGE_SIZE, slot % PAGE_SIZE

    def indptr(b: tirx.Expr) -> tirx.Expr:
        return step.q_indptr[b]

    forest = Forest(
        shape, args, flat, lambda i, field: step.new.nodes[2 * i + field], indptr, step.cached, step.page, slot_of
    )
    window = shape.window if args.cache.sliding else None
    forest.attend(indptr, step.batch, lambda b: step.active[b] != 0, window)


def paged_tree(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the attention of further tree nodes to a cache that holds the sequence and its tree, old and new nodes.

    Full layers only. The runtime calls the same kernel for sliding layers, with another shape of `length_info`, which
    the argument check refuses: a tree of a model with sliding layers must be committed before it grows.
    """
    with Kernel("attention_tree") as kernel:
        args = PagedTreeArguments(kernel, shape)
        cache = args.cache
        step = Step(shape, cache, args.n, args.batch)

        def past(b: tirx.Expr) -> tirx.Expr:
            """Return the number of tokens before the tree: all but the last page of the sequence are full."""
            nodes = args.node_indptr[b + 1] - args.node_indptr[b]
            return (step.held[b] - 1) * PAGE_SIZE + cache.length_info[b] - nodes

        def slot_of(b: tirx.Expr, j: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
            position = T.bind(past(b) + j)
            return step.page(b, position // PAGE_SIZE), position % PAGE_SIZE

        with T.If(step.is_last):
            with T.Then():
                forest = Forest(
                    shape, args, flattened(cache.pages), lambda i, field: args.nodes[i, field],
                    lambda b: args.node_indptr[b], past, step.page, slot_of,
                )  # fmt: skip
                forest.attend(lambda b: step.q_indptr[b], step.batch, lambda b: tirx.const(True, "bool"), None)
            with T.Else():
                hide(args.lse, args.n, shape.heads)
    return kernel.function
