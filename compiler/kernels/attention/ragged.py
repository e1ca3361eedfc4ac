"""Prefill inside a chunk: several new tokens per sequence go in; their attention to each other and its LSE come out."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.attention.kernel import Kernel, block, scratch, size, when
from argosy.compiler.kernels.attention.pages import store_token
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.attention.tile import Tile
from argosy.compiler.kernels.attention.worklist import TileList

LONG_CHUNK = "a prefill chunk is longer than the sliding window"


def ragged_prefill(shape: AttentionShape) -> tirx.PrimFunc:
    """Causal attention of a chunk to itself, for q (n, heads, d) and k, v (n, kv_heads, d) of sequences in a row.

    The cache has one kernel in this place for full and sliding layers, so a chunk longer than the window is refused.
    """
    d, heads, kv_heads, group, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.group, shape.dtype
    rows = shape.rows
    n, n_kv, batch = size("n"), size("n_kv"), size("batch")

    kernel = Kernel("attention_prefill_ragged")
    with kernel:
        q = kernel.tensor("q", (n, heads, d), dtype)
        q_indptr = kernel.indices("q_indptr", (batch + 1,))
        k = kernel.tensor("k", (n_kv, kv_heads, d), dtype)
        v = kernel.tensor("v", (n_kv, kv_heads, d), dtype)
        kv_indptr = kernel.indices("kv_indptr", (batch + 1,))
        kernel.indices("q_positions", (n,))
        kernel.indices("k_start", (batch,))
        output = kernel.tensor("output", (n, heads, d), dtype)
        lse = kernel.tensor("lse", (n, heads), "float32")
        causal = kernel.scalar("causal", "int32")
        kernel.scalar("rotary_mode", "int32")
        kernel.scalar("rope_scale", "float32")
        kernel.scalar("rope_theta", "float32")
        scale = kernel.scalar("sm_scale", "float32")

        refuse_long_chunks(shape, q_indptr, batch)
        chunk = PackedChunk(shape, k, v, kv_indptr, batch, n_kv)
        tiles = TileList(q_indptr, batch, n, group, rows)
        with T.parallel(tiles.count * kv_heads) as u, block("tile"):
            head = T.bind(u % kv_heads)
            b, first_row = tiles.bind(tiles.from_both_ends(u // kv_heads))
            q_len = T.bind(q_indptr[b + 1] - q_indptr[b])
            kv_len = T.bind(kv_indptr[b + 1] - kv_indptr[b])
            tile = Tile(shape, rows)
            with T.serial(rows) as r:
                query = T.bind(T.min((first_row + r) // group, q_len - 1))
                high = T.if_then_else(causal != 0, query + kv_len - q_len + 1, kv_len)
                tile.load_query(r, q, q_indptr[b] + query, head * group + (first_row + r) % group, T.int32(0), high)
            with T.serial(0, (tile.span[1] + PAGE - 1) // PAGE) as p:
                used = T.min(PAGE, tile.span[1] - p * PAGE)
                tile.attend(chunk.flat, T.bind(chunk.keys(b, head, p)), used, scale, tile.between(p * PAGE))
            with T.serial(rows) as r, when(first_row + r < q_len * group):
                row = T.bind(first_row + r)
                tile.finish(r, output, lse, q_indptr[b] + row // group, head * group + row % group)
    return kernel.function


def refuse_long_chunks(shape: AttentionShape, q_indptr: tirx.Buffer, batch: tirx.Expr) -> None:
    """An assertion that no sequence has more new tokens than the window."""
    if shape.window is None:
        return
    with T.serial(batch) as b, T.Assert(q_indptr[b + 1] - q_indptr[b] <= shape.window, LONG_CHUNK):
        T.evaluate(0)


class PackedChunk:
    """The keys and values of a chunk (n, kv_heads, d), packed into pages as the cache lays them out."""

    def __init__(
        self,
        shape: AttentionShape,
        k: tirx.Buffer,
        v: tirx.Buffer,
        indptr: tirx.Buffer,
        batch: tirx.Expr,
        tokens: tirx.Expr,
    ) -> None:
        self.shape = shape
        self.pages = TileList(indptr, batch, tokens, 1, PAGE)
        self.flat = scratch(self.pages.capacity * shape.page_elements, shape.dtype)
        with T.parallel(self.pages.count * shape.kv_heads) as u:
            page = T.bind(u // shape.kv_heads)
            b, first_token = self.pages.bind(page)
            token = T.bind(indptr[b] + first_token)
            with T.serial(T.min(PAGE, indptr[b + 1] - token)) as slot:
                store_token(shape, self.flat, page, slot, u % shape.kv_heads, k, v, token + slot)

    def keys(self, b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
        """Where the keys of page p of sequence b start."""
        return (self.pages.first_tile[b] + p) * self.shape.page_elements + head * self.shape.side_elements
