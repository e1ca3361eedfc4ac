"""Token trees: several guessed continuations per sequence go in, the attention of nodes to their ancestors comes out.

The runtime numbers the nodes of a tree depth first and passes, for each node, its number and the end of its subtree:
node j is an ancestor of node i, or i itself, if first[j] <= first[i] < end[j].
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.attention.kernel import Kernel, block, flattened, scratch, size, when
from argosy.compiler.kernels.attention.paged import cached_length, length_info_shape
from argosy.compiler.kernels.attention.ragged import PackedChunk, refuse_long_chunks
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.attention.tile import KeyBlock, Tiles, Visible
from argosy.compiler.kernels.attention.worklist import TileList

EVERY = 2**31 - 1  # nodes that see a key which comes before the tree


class TreeMask:
    """For each key slot, the depth-first numbers of the nodes that see it: `first` up to `first + count`.

    The slots of sequence b are those of `pages(b)` pages from page number `first_page(b)` on, of which `length(b)` are
    used; the last of them are its tree.
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
        self.first = scratch(total_pages * PAGE, "int32")
        self.count = scratch(total_pages * PAGE, "int32")
        with T.serial(batch) as b:
            used = T.bind(length(b))
            before_tree = T.bind(used - (indptr[b + 1] - indptr[b]))
            with T.serial((used + PAGE - 1) // PAGE * PAGE) as i:
                slot = T.bind(first_page(b) * PAGE + i)
                node = T.bind(indptr[b] + i - before_tree)
                T.buffer_store(self.first, 0, [slot])
                T.buffer_store(self.count, T.if_then_else(i < before_tree, EVERY, 0), [slot])
                with when(tirx.all(i >= before_tree, i < used)):
                    T.buffer_store(self.first, nodes[node, 0], [slot])
                    T.buffer_store(self.count, nodes[node, 1] - nodes[node, 0], [slot])

    def number(self, b: tirx.Expr, query: tirx.Expr, q_len: tirx.Expr) -> tirx.Expr:
        """The depth-first number of a query: the queries are the last nodes of the tree. 0 where there is no tree."""
        nodes = self.indptr[b + 1] - self.indptr[b]
        return T.if_then_else(nodes >= q_len, self.nodes[self.indptr[b + 1] - q_len + query, 0], 0)

    def visible(self, numbers: tirx.Buffer, page: tirx.Expr) -> Visible:
        """Which keys of page number `page` row r sees, by its depth-first number."""

        def visible(r: tirx.Expr, j: tirx.Expr) -> tirx.Expr:
            offset = T.broadcast(numbers[r], PAGE) - self.first.vload([page * PAGE], dtype=f"int32x{PAGE}")
            count = self.count.vload([page * PAGE], dtype=f"int32x{PAGE}")
            return T.Cast(f"uint32x{PAGE}", offset) < T.Cast(f"uint32x{PAGE}", count)

        return visible


def _attend_tree(
    shape: AttentionShape,
    mask: TreeMask,
    tiles: TileList,
    q: tirx.Buffer,
    q_indptr: tirx.Buffer,
    output: tirx.Buffer,
    lse: tirx.Buffer,
    scale: tirx.Expr,
    flat: tirx.Buffer,
    length: Callable[[tirx.Expr], tirx.Expr],
    first_page: Callable[[tirx.Expr], tirx.Expr],
    keys: Callable[[tirx.Expr, tirx.Expr, tirx.Expr], tirx.Expr],
) -> None:
    """The attention of all tiles; `keys(b, head, p)` is where the keys of page p of sequence b start in `flat`."""
    group, kv_heads, rows = shape.group, shape.kv_heads, shape.rows
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
            tile.load_query(0, r, q, q_indptr[b] + query, head * group + (first_row + r) % group, scale, 0, used)
        with T.serial((used + PAGE - 1) // PAGE) as p:
            visible = mask.visible(numbers, first_page(b) + p)
            place = T.bind(keys(b, head, p))
            page = KeyBlock(flat, 1, lambda j: place, lambda j: place + shape.side_elements)
            tile.attend(0, page, T.bind(T.min(PAGE, used - p * PAGE)), visible)
        with T.serial(rows) as r, when(first_row + r < q_len * group):
            row = T.bind(first_row + r)
            tile.finish(0, r, output, lse, q_indptr[b] + row // group, head * group + row % group)


def ragged_tree(shape: AttentionShape) -> tirx.PrimFunc:
    """Attention of new trees to themselves, for q (n, heads, d) and k, v (n, kv_heads, d) of trees in a row."""
    d, heads, kv_heads, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.dtype
    n, n_kv, ends, num_nodes = size("n"), size("n_kv"), size("batch_plus_1"), size("num_nodes")
    batch = ends - 1

    kernel = Kernel("attention_tree_ragged")
    with kernel:
        q = kernel.tensor("q", (n, heads, d), dtype)
        q_indptr = kernel.indices("q_indptr", (ends,))
        k = kernel.tensor("k", (n_kv, kv_heads, d), dtype)
        v = kernel.tensor("v", (n_kv, kv_heads, d), dtype)
        kv_indptr = kernel.indices("kv_indptr", (ends,))
        kernel.indices("q_positions", (n,))
        node_indptr = kernel.indices("node_indptr", (ends,))
        nodes = kernel.indices("nodes", (num_nodes, 2))
        output = kernel.tensor("output", (n, heads, d), dtype)
        lse = kernel.tensor("lse", (n, heads), "float32")
        kernel.scalar("rotary_mode", "int32")
        kernel.scalar("rope_scale", "float32")
        kernel.scalar("rope_theta", "float32")
        scale = kernel.scalar("sm_scale", "float32")

        refuse_long_chunks(shape, q_indptr, batch)
        chunk = PackedChunk(shape, k, v, kv_indptr, batch, n_kv)
        tiles = TileList(q_indptr, batch, n, shape.group, shape.rows)

        def length(b: tirx.Expr) -> tirx.Expr:
            return kv_indptr[b + 1] - kv_indptr[b]

        def first_page(b: tirx.Expr) -> tirx.Expr:
            return chunk.pages.first_tile[b]

        mask = TreeMask(nodes, node_indptr, batch, chunk.pages.capacity, first_page, length)
        _attend_tree(shape, mask, tiles, q, q_indptr, output, lse, scale, chunk.flat, length, first_page, chunk.keys)
    return kernel.function


def paged_tree(shape: AttentionShape) -> tirx.PrimFunc:
    """Attention of further tree nodes to a cache that holds the sequence and its tree, both old and new nodes.

    Full layers only. The runtime calls the same kernel for sliding layers, with another shape of `length_info`, which
    the argument check refuses: a tree of a model with sliding layers is to be committed before it grows.
    """
    d, heads, kv_heads, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.dtype
    n, batch, num_pages, num_ids, num_nodes = map(size, ("n", "batch", "num_pages", "num_ids", "num_nodes"))

    kernel = Kernel("attention_tree")
    with kernel:
        q = kernel.tensor("q", (n, heads, d), dtype)
        q_indptr = kernel.indices("q_indptr", (batch + 1,))
        pages = kernel.tensor("pages", (num_pages, 2, kv_heads, PAGE, d), dtype)
        page_indptr = kernel.indices("page_indptr", (batch + 1,))
        page_ids = kernel.indices("page_ids", (num_ids,))
        length_info = kernel.indices("length_info", length_info_shape(False, batch))
        kernel.indices("k_start", (batch,))
        kernel.indices("q_positions", (n,))
        output = kernel.tensor("output", (n, heads, d), dtype)
        lse = kernel.tensor("lse", (n, heads), "float32")
        kernel.scalar("rotary_mode", "int32")
        kernel.scalar("rope_scale", "float32")
        kernel.scalar("rope_theta", "float32")
        scale = kernel.scalar("sm_scale", "float32")
        node_indptr = kernel.indices("node_indptr", (batch + 1,))
        nodes = kernel.indices("nodes", (num_nodes, 2))

        tiles = TileList(q_indptr, batch, n, shape.group, shape.rows)

        def length(b: tirx.Expr) -> tirx.Expr:
            return cached_length(length_info, page_indptr, b, False)

        def first_page(b: tirx.Expr) -> tirx.Expr:
            return page_indptr[b]

        def keys(b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
            return page_ids[page_indptr[b] + p] * shape.page_elements + head * shape.head_elements

        mask = TreeMask(nodes, node_indptr, batch, num_ids, first_page, length)
        _attend_tree(shape, mask, tiles, q, q_indptr, output, lse, scale, flattened(pages), length, first_page, keys)
    return kernel.function
