"""Prefill inside a chunk: several new tokens per sequence go in; their attention to each other and its LSE come out."""

import tvm
from tvm.script import tirx as T

from argosy.compiler.kernels.attention.pages import make_store_token
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.attention.tile import Tile, between
from argosy.compiler.kernels.attention.worklist import from_both_ends, list_tiles

# ruff: noqa: F841 (names that TVMScript binds)

LONG_CHUNK = "a prefill chunk is longer than the sliding window"


def ragged_prefill(shape: AttentionShape) -> tvm.tirx.PrimFunc:
    """Attention of a chunk to itself, for q (n, heads, d) and k, v (n, kv_heads, d) of sequences one after the other.

    The keys are first packed into pages as the cache lays them out, so that the tile macros serve here too. The cache
    has one kernel in this place for full and sliding layers, so a chunk longer than the window is refused.
    """
    d, heads, kv_heads, group, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.group, shape.dtype
    rows = shape.rows
    tile = Tile(shape, rows)
    store_token = make_store_token(shape)
    longest = shape.window or 2**31 - 1

    @T.prim_func(s_tir=True)
    def attention_ragged_prefill(
        q_h: T.handle,
        q_indptr_h: T.handle,
        k_h: T.handle,
        v_h: T.handle,
        kv_indptr_h: T.handle,
        q_positions_h: T.handle,
        k_start_h: T.handle,
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
        n_kv = T.int32()
        batch = T.int32()
        q_indptr_offset = T.int32()
        kv_indptr_offset = T.int32()
        q_positions_offset = T.int32()
        k_start_offset = T.int32()
        q = T.match_buffer(q_h, (n, heads, d), dtype)
        q_indptr = T.match_buffer(q_indptr_h, (batch + 1,), "int32", elem_offset=q_indptr_offset)
        k = T.match_buffer(k_h, (n_kv, kv_heads, d), dtype)
        v = T.match_buffer(v_h, (n_kv, kv_heads, d), dtype)
        kv_indptr = T.match_buffer(kv_indptr_h, (batch + 1,), "int32", elem_offset=kv_indptr_offset)
        q_positions = T.match_buffer(q_positions_h, (n,), "int32", elem_offset=q_positions_offset)
        k_start = T.match_buffer(k_start_h, (batch,), "int32", elem_offset=k_start_offset)
        output = T.match_buffer(output_h, (n, heads, d), dtype)
        lse = T.match_buffer(lse_h, (n, heads), "float32")
        with T.sblock("root"):
            T.reads()
            T.writes()
            for b in T.serial(batch):
                assert q_indptr[b + 1] - q_indptr[b] <= longest, LONG_CHUNK
            flat = T.sblock_alloc_buffer(((n_kv // PAGE + batch) * shape.page_elements,), dtype)
            page_owner = T.sblock_alloc_buffer((n_kv // PAGE + batch,), "int32")
            page_token = T.sblock_alloc_buffer((n_kv // PAGE + batch,), "int32")
            first_page = T.sblock_alloc_buffer((batch + 1,), "int32")
            tile_owner = T.sblock_alloc_buffer((n * group // rows + batch,), "int32")
            tile_row = T.sblock_alloc_buffer((n * group // rows + batch,), "int32")
            first_tile = T.sblock_alloc_buffer((batch + 1,), "int32")
            list_tiles(kv_indptr, batch, 1, PAGE, page_owner, page_token, first_page)
            list_tiles(q_indptr, batch, group, rows, tile_owner, tile_row, first_tile)
            for u in T.parallel(first_page[batch] * kv_heads):
                page: T.let[T.int32] = u // kv_heads
                token: T.let[T.int32] = kv_indptr[page_owner[page]] + page_token[page]
                for slot in T.serial(T.min(PAGE, kv_indptr[page_owner[page] + 1] - token)):
                    store_token(flat, page, slot, u % kv_heads, k, v, token + slot)
            for u in T.parallel(first_tile[batch] * kv_heads):
                with T.sblock("tile"):
                    T.reads()
                    T.writes()
                    state = T.meta_var(tile.allocate())
                    head: T.let[T.int32] = u % kv_heads
                    t: T.let[T.int32] = from_both_ends(u // kv_heads, first_tile[batch])
                    b: T.let[T.int32] = tile_owner[t]
                    q_len: T.let[T.int32] = q_indptr[b + 1] - q_indptr[b]
                    kv_len: T.let[T.int32] = kv_indptr[b + 1] - kv_indptr[b]
                    tile.clear(state)
                    for r in T.serial(rows):
                        query: T.let[T.int32] = T.min((tile_row[t] + r) // group, q_len - 1)
                        tile.load_row(state, r, q, q_indptr[b] + query, head * group + (tile_row[t] + r) % group)
                        last: T.let[T.int32] = query + kv_len - q_len
                        state.high[r] = T.if_then_else(causal != 0, last + 1, kv_len)
                        state.low[r] = 0
                    tile.span(state)
                    for p in T.serial(state.span[0] // PAGE, (state.span[1] + PAGE - 1) // PAGE):
                        k_at: T.let[T.int32] = (first_page[b] + p) * shape.page_elements + head * shape.side_elements
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

    return attention_ragged_prefill
