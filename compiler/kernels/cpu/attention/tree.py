"""Attend from the nodes of token trees, several guessed continuations per sequence, to their ancestors.

The runtime numbers the nodes of a tree depth first and passes, for each node, its number and the end of its subtree:
node j is an ancestor of node i, or i itself, if first[j] <= first[i] < end[j].
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, block, flattened, scratch, when
from argosy.compiler.kernels.cpu.attention.ragged import PackedChunk, refuse_long_chunks
from argosy.compiler.kernels.cpu.attention.tile import KeyBlock, Tiles, Visible
from argosy.compiler.kernels.cpu.attention.worklist import TileList
from argosy.compiler.kernels.cpu.lanes import convert, load, splat
from argosy.compiler.kernels.kv.arguments import PagedTreeArguments, RaggedTreeArguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

EVERY = 2**31 - 1  # a count of nodes: all of them see a key before the tree


class TreeMask:
    """The depth-first numbers of the nodes that see each key slot: `first` up to `first + count`.

    The slots of sequence b are those from page number `first_page(b)` on; `length(b)` of them are used, and the last
    used ones are its tree.
    """

    def __init__(
        self,
        nodes: tirx.Buffer,
        indptr: tirx.Buffer,
        batch: tirx.Expr,
        total_pages: tirx.Expr,
        first_page: Callable[[tirx.Expr], tirx.Expr],
        length: Callable[[tirx.Expr], tirx.Expr],
    ) -> None:
        self.nodes = nodes
        self.indptr = indptr
        self.first = scratch(total_pages * PAGE_SIZE, "int32")
        self.count = scratch(total_pages * PAGE_SIZE, "int32")
        with T.serial(batch) as b:
            used = T.bind(length(b))
            before_tree = T.bind(used - (indptr[b + 1] - indptr[b]))
            with T.serial((used + PAGE_SIZE - 1) // PAGE_SIZE * PAGE_SIZE) as i:
                slot = T.bind(first_page(b) * PAGE_SIZE + i)
                node = T.bind(indptr[b] + i - before_tree)
                T.buffer_store(self.first, 0, [slot])
                T.buffer_store(self.count, T.if_then_else(i < before_tree, EVERY, 0), [slot])
                with when(tirx.all(i >= before_tree, i < used)):
                    T.buffer_store(self.first, nodes[node, 0], [slot])
                    T.buffer_store(self.count, nodes[node, 1] - nodes[node, 0], [slot])

    def number(self, b: tirx.Expr, query: tirx.Expr, q_len: tirx.Expr) -> tirx.Expr:
        """Return the depth-first number of a query: the queries are the last nodes of the tree. 0 without a tree."""
        nodes = self.indptr[b + 1] - self.indptr[b]
        return T.if_then_else(nodes >= q_len, self.nodes[self.indptr[b + 1] - q_len + query, 0], 0)

    def visible(self, numbers: tirx.Buffer, page: tirx.Expr) -> Visible:
        """Return the mask of the keys of page number `page` that row r sees, by its depth-first number."""

        def visible(r: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
            offset = splat(numbers[r]) - load(self.first, page * PAGE_SIZE)
            return convert(offset, "uint32") < convert(load(self.count, page * PAGE_SIZE), "uint32")

        return visible


def _attend_tree(
    shape: AttentionShape,
    args: PagedTreeArguments | RaggedTreeArguments,
    mask: TreeMask,
    tiles: TileList,
    flat: tirx.Buffer,
    length: Callable[[tirx.Expr], tirx.Expr],
    first_page: Callable[[tirx.Expr], tirx.Expr],
    keys: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr],
) -> None:
    """Compute the attention of all tiles; in `flat`, keys of page p of sequence b start at `keys(b, head, p)`."""
    group, kv_heads, rows, q_indptr = shape.group, shape.kv_heads, shape.rows, args.q_indptr
    with T.parallel(tiles.count * kv_heads) as u, block("tile"):
        head = T.bind(u % kv_heads)
        b, first_row = tiles.bind(u // kv_heads)
        q_len = T.bind(q_indptr[b + 1] - q_indptr[b])
        used = T.bind(length(b))
        tile = Tiles(shape, rows, 1)
        tile.start(0)
        numbers = scratch(rows, "int32")
        with T.serial(rows) as r:
            query = T.bind(T.min((first_row + r) // group, q_len - 1))
            T.buffer_store(numbers, mask.number(b, query, q_len), [r])
            query_head = head * group + (first_row + r) % group
            tile.load_query(0, r, args.q, q_indptr[b] + query, query_head, args.scale, 0, used)
        with T.serial((used + PAGE_SIZE - 1) // PAGE_SIZE) as p:
            visible = mask.visible(numbers, first_page(b) + p)
            place = T.bind(keys(b, head, p))
            page = KeyBlock(flat, 1, lambda j: place, lambda j: place + shape.side_elements)
            tile.attend(0, page, T.bind(T.min(PAGE_SIZE, used - p * PAGE_SIZE)), visible)
        with T.serial(rows) as r, when(first_row + r < q_len * group):
            row = T.bind(first_row + r)
            tile.finish(0, r, args.output, args.lse, q_indptr[b] + row // group, head * group + row % group)


def ragged_tree(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the attention of new trees to themselves, for q (n, heads, d) and k, v (n, kv_heads, d), tree by tree."""
    with Kernel("attention_tree_ragged") as kernel:
        args = RaggedTreeArguments(kernel, shape)
        refuse_long_chunks(shape, args)
        chunk = PackedChunk(shape, args)
        tiles = TileList(args.q_indptr, args.batch, args.n, shape.group, shape.rows)

        def length(b: tirx.Expr) -> tirx.Expr:
            return args.kv_indptr[b + 1] - args.kv_indptr[b]

        def first_page(b: tirx.Expr) -> tirx.Expr:
            return chunk.pages.first_tile[b]

        mask = TreeMask(args.nodes, args.node_indptr, args.batch, chunk.pages.capacity, first_page, length)
        _attend_tree(shape, args, mask, tiles, chunk.flat, length, first_page, chunk.keys)
    return kernel.function


def paged_tree(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the attention of further tree nodes to a cache that holds the sequence and its tree, old and new nodes.

    Full layers only. The runtime calls the same kernel for sliding layers, with another shape of `length_info`, which
    the argument check refuses: a tree of a model with sliding layers must be committed before it grows.
    """
    with Kernel("attention_tree") as kernel:
        args = PagedTreeArguments(kernel, shape)
        cache = args.cache
        tiles = TileList(args.q_indptr, args.batch, args.n, shape.group, shape.rows)

        def first_page(b: tirx.Expr) -> tirx.Expr:
            return cache.indptr[b]

        mask = TreeMask(args.nodes, args.node_indptr, args.batch, cache.num_ids, first_page, cache.length)
        _attend_tree(shape, args, mask, tiles, flattened(cache.pages), cache.length, first_page, cache.keys)
    return kernel.function
