"""Prefill against the cache: several query tokens per sequence and cached pages go in, output and LSE come out."""

import tvm
from tvm.script import tirx as T

from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.attention.tile import Tile, between
from argosy.compiler.kernels.attention.worklist import list_tiles

# ruff: noqa: F841, F821 (names that TVMScript binds)


def length_info_shape(sliding: bool, batch):
    """The runtime passes (last_page_len,) to full layers, (last_page_len, offset, sink) to sliding ones, per sequence."""
    return (3, batch) if sliding else (batch,)


def page_offset(length_info, b, sliding: bool):
    """The slot of the first cached token that the runtime offers: it drops whole pages only."""
    return length_info[1, b] if sliding else 0


def cached_length(length_info, page_indptr, b, sliding: bool):
    """Tokens of sequence b in the pages that the runtime offers."""
    num_pages = page_indptr[b + 1] - page_indptr[b]
    last_page_len = length_info[0, b] if sliding else length_info[b]
    length = (num_pages - 1) * PAGE + last_page_len - page_offset(length_info, b, sliding)
    return T.if_then_else(num_pages == 0, 0, length)


def paged_prefill(shape: AttentionShape, sliding: bool) -> tvm.tirx.PrimFunc:
    """Attention of a chunk to what the cache holds.

    Which keys a query sees is decided by positions in the sequence: not after the query, and in a sliding layer less than
    the window before it. Neither the flag `causal` nor "all of the cache" would do: see docs/notes/kv_cache.md.
    """
    d, heads, kv_heads, group, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.group, shape.dtype
    rows = shape.rows
    tile = Tile(shape, rows)
    window = (shape.window or 0) if sliding else 0

    def first_position(k_start, length, b, next_position, is_first_block):
        """The position of the first cached token.

        The runtime gives `k_start` = max(0, end - window) to sliding layers, which says `end` unless it is 0. Then the
        block is the sequence's first, or it ends where the chunk starts.
        """
        if not sliding:
            return k_start[b]
        unclear = T.if_then_else(is_first_block, 0, next_position - length)
        return T.if_then_else(k_start[b] > 0, k_start[b] + window - length, unclear)

    @T.prim_func(s_tir=True)
    def attention_paged_prefill(
        q_h: T.handle,
        q_indptr_h: T.handle,
        pages_h: T.handle,
        page_indptr_h: T.handle,
        page_ids_h: T.handle,
        length_info_h: T.handle,
        k_start_h: T.handle,
        q_positions_h: T.handle,
        output_h: T.handle,
        lse_h: T.handle,
        causal: T.int32,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        n = T.int32()
        batch = T.int32()
        num_pages = T.int32()
        num_ids = T.int32()
        q_indptr_offset = T.int32()
        page_indptr_offset = T.int32()
        page_ids_offset = T.int32()
        length_info_offset = T.int32()
        k_start_offset = T.int32()
        q_positions_offset = T.int32()
        q = T.match_buffer(q_h, (n, heads, d), dtype)
        q_indptr = T.match_buffer(q_indptr_h, (batch + 1,), "int32", elem_offset=q_indptr_offset)
        pages = T.match_buffer(pages_h, (num_pages, 2, kv_heads, PAGE, d), dtype)
        page_indptr = T.match_buffer(page_indptr_h, (batch + 1,), "int32", elem_offset=page_indptr_offset)
        page_ids = T.match_buffer(page_ids_h, (num_ids,), "int32", elem_offset=page_ids_offset)
        length_info = T.match_buffer(
            length_info_h, length_info_shape(sliding, batch), "int32", elem_offset=length_info_offset
        )
        k_start = T.match_buffer(k_start_h, (batch,), "int32", elem_offset=k_start_offset)
        q_positions = T.match_buffer(q_positions_h, (n,), "int32", elem_offset=q_positions_offset)
        output = T.match_buffer(output_h, (n, heads, d), dtype)
        lse = T.match_buffer(lse_h, (n, heads), "float32")
        flat = T.decl_buffer((num_pages * shape.page_elements,), dtype, data=pages.data)
        with T.sblock("root"):
            T.reads()
            T.writes()
            tile_owner = T.sblock_alloc_buffer((n * group // rows + batch,), "int32")
            tile_row = T.sblock_alloc_buffer((n * group // rows + batch,), "int32")
            first_tile = T.sblock_alloc_buffer((batch + 1,), "int32")
            list_tiles(q_indptr, batch, group, rows, tile_owner, tile_row, first_tile)
            for u in T.parallel(first_tile[batch] * kv_heads):
                with T.sblock("tile"):
                    T.reads()
                    T.writes()
                    state = T.meta_var(tile.allocate())
                    head: T.let[T.int32] = u % kv_heads
                    t: T.let[T.int32] = u // kv_heads
                    b: T.let[T.int32] = tile_owner[t]
                    q_len: T.let[T.int32] = q_indptr[b + 1] - q_indptr[b]
                    length: T.let[T.int32] = cached_length(length_info, page_indptr, b, sliding)
                    offset: T.let[T.int32] = page_offset(length_info, b, sliding)
                    # The runtime lays its index arrays out in one buffer: positions, then q_indptr of the first blocks.
                    is_first_block: T.let[T.bool] = q_indptr_offset == q_positions_offset + (n + 3) // 4 * 4
                    first: T.let[T.int32] = first_position(
                        k_start, length, b, q_positions[q_indptr[b]], is_first_block
                    )
                    tile.clear(state)
                    for r in T.serial(rows):
                        token: T.let[T.int32] = q_indptr[b] + T.min((tile_row[t] + r) // group, q_len - 1)
                        tile.load_row(state, r, q, token, head * group + (tile_row[t] + r) % group)
                        beyond: T.let[T.int32] = q_positions[token] - first + 1
                        state.high[r] = offset + T.min(length, beyond)
                        state.low[r] = offset + (T.max(beyond - window, 0) if sliding else 0)
                    tile.span(state)
                    for p in T.serial(state.span[0] // PAGE, (state.span[1] + PAGE - 1) // PAGE):
                        page: T.let[T.int32] = page_ids[page_indptr[b] + p]
                        k_at: T.let[T.int32] = page * shape.page_elements + head * shape.side_elements
                        tile.scores(state, flat, k_at, sm_scale)
                        tile.soften(state, between(state, p * PAGE))
                        tile.values(
                            state, flat, k_at + kv_heads * shape.side_elements, T.min(PAGE, state.span[1] - p * PAGE)
                        )
                    for r in T.serial(rows):
                        row: T.let[T.int32] = tile_row[t] + r
                        if row < q_len * group:
                            tile.finish_row(
                                state, r, output, lse, q_indptr[b] + row // group, head * group + row % group
                            )

    return attention_paged_prefill
