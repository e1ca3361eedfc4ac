"""Attention to the cache and inside a chunk: queries, pages or new keys go in, output and LSE come out.

Which keys a query sees is decided by positions in the sequence, as on the CPU: docs/notes/kv_cache.md says why.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.attention.kernel import Kernel, flattened, size, when
from argosy.compiler.kernels.attention.paged import (
    cached_length,
    first_position,
    is_first_block,
    length_info_shape,
    page_offset,
)
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.gpu.attention.pages import slot_place
from argosy.compiler.kernels.gpu.attention.tile import SLICE, Keys, Row, Tile
from argosy.compiler.kernels.gpu.launch import ceildiv, registers, workgroups

CHUNK_ROWS = 8  # of a prefill tile
DECODE_ROWS = 8  # at most: query heads of a KV head that decode together
DECODE_SLICES = 4


def decode(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Attention of the newest token of each sequence to the cache, which already holds that token."""
    d, heads, kv_heads, group, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.group, shape.dtype
    tiles = int(ceildiv(group, DECODE_ROWS))
    rows = int(ceildiv(group, tiles))
    batch, num_pages, num_ids = size("batch"), size("num_pages"), size("num_ids")

    kernel = Kernel("attention_decode_sliding" if sliding else "attention_decode")
    with kernel:
        q = kernel.tensor("q", (batch, heads, d), dtype)
        pages = kernel.tensor("pages", (num_pages, 2, kv_heads, PAGE, d), dtype)
        page_indptr = kernel.indices("page_indptr", (batch + 1,))
        page_ids = kernel.indices("page_ids", (num_ids,))
        length_info = kernel.indices("length_info", length_info_shape(sliding, batch))
        k_start = kernel.indices("k_start", (batch,))
        q_positions = kernel.indices("q_positions", (batch,))
        output = kernel.tensor("output", (batch, heads, d), dtype)
        lse = kernel.tensor("lse", (batch, heads), "float32")
        kernel.scalar("rotary_mode", "int32")
        kernel.scalar("rope_scale", "float32")
        kernel.scalar("rope_theta", "float32")
        scale = kernel.scalar("sm_scale", "float32")
        flat = flattened(pages)

        with workgroups(kv_heads * tiles, batch, SLICE * DECODE_SLICES) as (bx, b, thread):
            head, first_row = T.bind(bx // tiles), T.bind(bx % tiles * rows)
            length = T.bind(cached_length(length_info, page_indptr, b, sliding))
            low = T.bind(page_offset(length_info, b, sliding))
            high = T.bind(low + length)
            if sliding:
                # k_start = max(0, end - window). Where that is 0, either the first cached token is at 0, or the window
                # reaches back to 0 and a position that is too small does no harm.
                first = T.if_then_else(k_start[b] > 0, k_start[b] + shape.window - length, 0)
                low = T.bind(low + T.max(q_positions[b] + 1 - shape.window - first, 0))

            def row(r: int | tirx.Expr) -> Row:
                return Row(b, head * group + first_row + r, first_row + r < group, low, high)

            keys = _page_keys(shape, flat, page_ids, page_indptr, b, head, low, high)
            Tile(shape, rows, DECODE_SLICES, thread).attend(row, keys, q, output, lse, scale)
    return kernel.function


def paged_prefill(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Attention of a chunk to what the cache holds."""
    d, heads, kv_heads, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.dtype
    n, batch, num_pages, num_ids = size("n"), size("batch"), size("num_pages"), size("num_ids")

    kernel = Kernel("attention_prefill_sliding" if sliding else "attention_prefill")
    with kernel:
        q = kernel.tensor("q", (n, heads, d), dtype)
        q_indptr = kernel.indices("q_indptr", (batch + 1,))
        pages = kernel.tensor("pages", (num_pages, 2, kv_heads, PAGE, d), dtype)
        page_indptr = kernel.indices("page_indptr", (batch + 1,))
        page_ids = kernel.indices("page_ids", (num_ids,))
        length_info = kernel.indices("length_info", length_info_shape(sliding, batch))
        k_start = kernel.indices("k_start", (batch,))
        q_positions = kernel.indices("q_positions", (n,))
        output = kernel.tensor("output", (n, heads, d), dtype)
        lse = kernel.tensor("lse", (n, heads), "float32")
        kernel.scalar("causal", "int32")
        kernel.scalar("rotary_mode", "int32")
        kernel.scalar("rope_scale", "float32")
        kernel.scalar("rope_theta", "float32")
        scale = kernel.scalar("sm_scale", "float32")
        flat = flattened(pages)
        is_first = T.bind(T.Cast("int32", is_first_block(q_indptr, n))) if sliding else T.int32(0)

        with _chunk_tiles(shape, n, batch) as (tile, head, thread):
            b, row_of, _ = _rows_of_tile(shape, q_indptr, batch, tile, head)
            length = T.bind(cached_length(length_info, page_indptr, b, sliding))
            offset = T.bind(page_offset(length_info, b, sliding))
            first = k_start[b]
            if sliding:
                first = first_position(shape, first, length, q_positions[q_indptr[b]], is_first == 1)
            first = T.bind(first)

            def row(r: int | tirx.Expr) -> Row:
                token, query_head, exists = row_of(r)
                end = T.bind(q_positions[token] + 1 - first)  # tokens of the cache up to the query
                low = T.max(end - shape.window, 0) if sliding else 0
                return Row(token, query_head, exists, offset + low, offset + T.min(length, end))

            keys = _page_keys(shape, flat, page_ids, page_indptr, b, head, offset, offset + length)
            Tile(shape, CHUNK_ROWS, 1, thread).attend(row, keys, q, output, lse, scale)
    return kernel.function


def ragged_prefill(shape: AttentionShape) -> tirx.PrimFunc:
    """Causal attention of a chunk to itself, for q (n, heads, d) and k, v (n, kv_heads, d) of sequences in a row.

    The cache has one kernel in this place for full and sliding layers, which is why a library's prefill chunk is never
    longer than the window (`bounds.py`).
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

        with _chunk_tiles(shape, n, batch) as (tile, head, thread):
            b, row_of, last_token = _rows_of_tile(shape, q_indptr, batch, tile, head)
            start = T.bind(kv_indptr[b])
            kv_len = T.bind(kv_indptr[b + 1] - start)
            before = T.bind(kv_len - q_indptr[b + 1] + 1)  # a query sees itself and what comes before it

            def visible(token: tirx.Expr) -> tirx.Expr:
                return T.if_then_else(causal != 0, token + before, kv_len)

            def row(r: int | tirx.Expr) -> Row:
                token, query_head, exists = row_of(r)
                return Row(token, query_head, exists, T.int32(0), visible(token))

            keys = Keys(
                T.int32(0), T.bind(visible(last_token)), lambda j: start + j,
                lambda place, x: k[place, head, x], lambda place, x: v[place, head, x],
            )  # fmt: skip
            Tile(shape, CHUNK_ROWS, 1, thread).attend(row, keys, q, output, lse, scale)
    return kernel.function


def _page_keys(
    shape: AttentionShape,
    flat: tirx.Buffer,
    page_ids: tirx.Buffer,
    page_indptr: tirx.Buffer,
    b: tirx.Expr,
    head: tirx.Expr,
    low: tirx.Expr,
    high: tirx.Expr,
) -> Keys:
    """The key slots `low` to `high` of sequence b, counted from its first page."""

    def place(slot: tirx.Expr) -> tirx.Expr:
        return slot_place(shape, page_ids[page_indptr[b] + slot // PAGE], head, slot % PAGE)

    return Keys(low, high, place, lambda at, x: flat[at + x], lambda at, x: flat[at + shape.side_elements + x])


def _chunk_tiles(shape: AttentionShape, n: tirx.Expr, batch: tirx.Expr):
    """A workgroup for each tile of rows of a chunk, counted over all sequences, and each KV head."""
    return workgroups(n * shape.group // CHUNK_ROWS + batch, shape.kv_heads, SLICE)


def _rows_of_tile(
    shape: AttentionShape, q_indptr: tirx.Buffer, batch: tirx.Expr, tile: tirx.Expr, head: tirx.Expr
) -> tuple[tirx.Expr, Callable[[int | tirx.Expr], tuple[tirx.Expr, tirx.Expr, tirx.Expr]], tirx.Expr]:
    """The sequence of a tile, what its row r is (token, query head, whether there is one), and its last token.

    Tiles are counted from the first sequence on; there may be more of them than rows.
    """
    group = shape.group
    found = registers(2, "int32")  # the sequence, and the number of the tile in it
    T.buffer_store(found, 0, [0])
    T.buffer_store(found, tile, [1])
    with T.serial(batch) as i:
        tiles = T.bind(((q_indptr[i + 1] - q_indptr[i]) * group + (CHUNK_ROWS - 1)) // CHUNK_ROWS)
        with when(tirx.all(found[0] == i, found[1] >= tiles)):
            T.buffer_store(found, i + 1, [0])
            T.buffer_store(found, found[1] - tiles, [1])
    b = T.bind(T.min(found[0], batch - 1))
    first_row = T.bind(found[1] * CHUNK_ROWS)
    start = T.bind(q_indptr[b])
    rows = T.bind(T.if_then_else(found[0] < batch, (q_indptr[b + 1] - start) * group, 0))

    def row_of(r: int | tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
        exists = first_row + r < rows
        row = T.bind(T.if_then_else(exists, first_row + r, 0))
        return T.bind(start + row // group), T.bind(head * group + row % group), exists

    last_row = T.max(T.min(first_row + CHUNK_ROWS, rows) - 1, 0)
    return b, row_of, T.bind(start + last_row // group)
