"""Build the attention kernels: one token of each sequence to the cache, a chunk to the cache, a chunk to itself.

Positions in the sequence decide which keys a query sees, as on the CPU: docs/notes/kv_cache.md says why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, flattened, when
from argosy.compiler.kernels.gpu.attention.size import TileSize, chunk_tile, decode_tile
from argosy.compiler.kernels.gpu.attention.tile import Keys, QueryRow, Tile
from argosy.compiler.kernels.gpu.launch import ceildiv, registers, workgroups
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.kv.arguments import DecodeArguments, PagedArguments, RaggedArguments
from argosy.compiler.kernels.kv.cached import CachedPages
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape


def decode(traits: GpuTraits, shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Build attention of the newest token of each sequence to the cache, which already holds that token."""
    kv_heads, group, size = shape.kv_heads, shape.group, decode_tile(traits, shape)
    tiles = ceildiv(group, size.rows)

    with Kernel("attention_decode_sliding" if sliding else "attention_decode") as kernel:
        args = DecodeArguments(kernel, shape, sliding)
        cache, flat = args.cache, flattened(args.cache.pages)

        with workgroups(kv_heads * tiles, args.batch, size.threads) as (bx, b, thread):
            head, first_row = T.bind(bx // tiles), T.bind(bx % tiles * size.rows)
            length = T.bind(cache.length(b))
            low = T.bind(cache.offset(b))
            high = T.bind(low + length)
            if sliding:
                low = T.bind(low + cache.before_window(b, length))

            def row(r: int | tirx.Expr) -> QueryRow:
                return QueryRow(b, head * group + first_row + r, first_row + r < group, low, high)

            keys = _page_keys(shape, flat, cache, b, head, low, high)
            Tile(shape, size, thread).attend(row, keys, args.q, args.output, args.lse, args.scale)
    return kernel.function


def paged_prefill(traits: GpuTraits, shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Build attention of a chunk to what the cache holds."""
    size = chunk_tile(traits, shape)
    with Kernel("attention_prefill_sliding" if sliding else "attention_prefill") as kernel:
        args = PagedArguments(kernel, shape, sliding)
        cache, flat = args.cache, flattened(args.cache.pages)
        is_first = T.bind(T.Cast("int32", args.is_first_block())) if sliding else T.int32(0)

        with _chunk_tiles(shape, size, args) as (tile, head, thread):
            b, row_of, _ = _rows_of_tile(shape, size, args, tile, head)
            length, offset = T.bind(cache.length(b)), T.bind(cache.offset(b))
            visible = args.visible_slots(b, offset, length, is_first == 1)

            def row(r: int | tirx.Expr) -> QueryRow:
                token, query_head, exists = row_of(r)
                return QueryRow(token, query_head, exists, *visible(token))

            keys = _page_keys(shape, flat, cache, b, head, offset, offset + length)
            Tile(shape, size, thread).attend(row, keys, args.q, args.output, args.lse, args.scale)
    return kernel.function


def ragged_prefill(traits: GpuTraits, shape: AttentionShape) -> tirx.PrimFunc:
    """Build causal attention of a chunk to itself, for q (n, heads, d) and k, v (n, kv_heads, d) of sequences in a row.

    The cache has one kernel in this place for full and sliding layers, which is why a library's prefill chunk is never
    longer than the window (`bounds.py`).
    """
    size = chunk_tile(traits, shape)
    with Kernel("attention_prefill_ragged") as kernel:
        args = RaggedArguments(kernel, shape)

        with _chunk_tiles(shape, size, args) as (tile, head, thread):
            b, row_of, last_token = _rows_of_tile(shape, size, args, tile, head)
            start = T.bind(args.kv_indptr[b])
            kv_len = T.bind(args.kv_indptr[b + 1] - start)
            visible = args.visible_keys(b, kv_len)

            def row(r: int | tirx.Expr) -> QueryRow:
                token, query_head, exists = row_of(r)
                return QueryRow(token, query_head, exists, T.int32(0), visible(token))

            keys = Keys(
                T.int32(0), T.bind(visible(last_token)), lambda j: start + j,
                lambda place, x: args.k[place, head, x], lambda place, x: args.v[place, head, x],
            )  # fmt: skip
            Tile(shape, size, thread).attend(row, keys, args.q, args.output, args.lse, args.scale)
    return kernel.function


def _page_keys(
    shape: AttentionShape,
    flat: tirx.Buffer,
    cache: CachedPages,
    b: tirx.Expr,
    head: tirx.Expr,
    low: tirx.Expr,
    high: tirx.Expr,
) -> Keys:
    """Return the key slots `low` to `high` of sequence b, counted from its first page."""

    def place(slot: tirx.Expr) -> tirx.Expr:
        return cache.keys(b, head, slot // PAGE_SIZE) + slot % PAGE_SIZE * shape.head_dim

    return Keys(low, high, place, lambda at, x: flat[at + x], lambda at, x: flat[at + shape.side_elements + x])


def _chunk_tiles(
    shape: AttentionShape, size: TileSize, args: PagedArguments | RaggedArguments
) -> AbstractContextManager[tuple[tirx.Expr, tirx.Expr, tirx.Expr]]:
    """Launch a workgroup for every tile of rows of a chunk, counted over all sequences, and every KV head."""
    return workgroups(args.n * shape.group // size.rows + args.batch, shape.kv_heads, size.threads)


def _rows_of_tile(
    shape: AttentionShape, size: TileSize, args: PagedArguments | RaggedArguments, tile: tirx.Expr, head: tirx.Expr
) -> tuple[tirx.Expr, Callable[[int | tirx.Expr], tuple[tirx.Expr, tirx.Expr, tirx.Expr]], tirx.Expr]:
    """Return the sequence of a tile, what its row r is (token, query head, whether there is one), and its last token.

    Tiles are counted from the first sequence on; there may be more of them than rows.
    """
    group, q_indptr, batch = shape.group, args.q_indptr, args.batch
    found = registers(2, "int32")  # the sequence, and the number of the tile in it
    T.buffer_store(found, 0, [0])
    T.buffer_store(found, tile, [1])
    with T.serial(batch) as i:
        tiles = T.bind(((q_indptr[i + 1] - q_indptr[i]) * group + (size.rows - 1)) // size.rows)
        with when(tirx.all(found[0] == i, found[1] >= tiles)):
            T.buffer_store(found, i + 1, [0])
            T.buffer_store(found, found[1] - tiles, [1])
    b = T.bind(T.min(found[0], batch - 1))
    first_row = T.bind(found[1] * size.rows)
    start = T.bind(q_indptr[b])
    rows = T.bind(T.if_then_else(found[0] < batch, (q_indptr[b + 1] - start) * group, 0))

    def row_of(r: int | tirx.Expr) -> tuple[tirx.Expr, tirx.Expr, tirx.Expr]:
        exists = first_row + r < rows
        row = T.bind(T.if_then_else(exists, first_row + r, 0))
        return T.bind(start + row // group), T.bind(head * group + row % group), exists

    last_row = T.max(T.min(first_row + size.rows, rows) - 1, 0)
    return b, row_of, T.bind(start + last_row // group)
