"""Prefill inside a chunk: several new tokens per sequence go in; their attention to each other and its LSE come out."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.attention.chunk import ChunkTiles
from argosy.compiler.kernels.attention.kernel import Kernel, scratch, size
from argosy.compiler.kernels.attention.pages import store_token
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.attention.worklist import TileList

LONG_CHUNK = "a prefill chunk is longer than the sliding window"


def ragged_prefill(shape: AttentionShape) -> tirx.PrimFunc:
    """Causal attention of a chunk to itself, for q (n, heads, d) and k, v (n, kv_heads, d) of sequences in a row.

    The cache has one kernel in this place for full and sliding layers, so a chunk longer than the window is refused.
    """
    d, heads, kv_heads, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.dtype
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
        tiles = ChunkTiles(shape, q, q_indptr, batch, n)

        def bounds(b: tirx.Expr) -> Callable[[tirx.Expr], tuple[tirx.Expr, tirx.Expr]]:
            kv_len = T.bind(kv_indptr[b + 1] - kv_indptr[b])
            before = T.bind(kv_len - q_indptr[b + 1] + 1)  # a query sees itself and what comes before it
            return lambda token: (T.int32(0), T.if_then_else(causal != 0, token + before, kv_len))

        tiles.attend(tiles.items.from_both_ends, scale, chunk.flat, bounds, chunk.keys, output, lse)
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
        return (self.pages.first_tile[b] + p) * self.shape.page_elements + head * self.shape.head_elements
