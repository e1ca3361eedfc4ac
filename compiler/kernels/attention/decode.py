"""Decode: one query token per sequence and cached pages go in, attention output (b, heads, d) and LSE come out."""

import tvm
from tvm.script import tirx as T

from argosy.compiler.kernels.attention.paged_prefill import cached_length, length_info_shape, page_offset
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape
from argosy.compiler.kernels.attention.tile import Tile, between

# ruff: noqa: F841, F821 (names that TVMScript binds)

# A batch is cut along the keys until there are this many work items, but no part gets fewer pages than MIN_PAGES.
WORK_ITEMS = 48
MIN_PAGES = 4


def decode(shape: AttentionShape, sliding: bool) -> tvm.tirx.PrimFunc:
    """Attention of the newest token of each sequence to the cache, which already holds that token.

    The keys of a sequence may be spread over two calls (a prefix that sequences share, and the rest), so a sliding layer
    compares positions here too. `parts` cuts the keys of each sequence; partial results are merged at the end.
    """
    d, heads, kv_heads, group, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.group, shape.dtype
    rows = shape.decode_rows
    tiles = -(-group // rows)
    tile = Tile(shape, rows)
    lanes = shape.lanes
    window = (shape.window or 0) if sliding else 0

    @T.prim_func(s_tir=True)
    def attention_decode(
        q_h: T.handle,
        pages_h: T.handle,
        page_indptr_h: T.handle,
        page_ids_h: T.handle,
        length_info_h: T.handle,
        k_start_h: T.handle,
        q_positions_h: T.handle,
        output_h: T.handle,
        lse_h: T.handle,
        rotary_mode: T.int32,
        rope_scale: T.float32,
        rope_theta: T.float32,
        sm_scale: T.float32,
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        batch = T.int32()
        num_pages = T.int32()
        num_ids = T.int32()
        page_indptr_offset = T.int32()
        page_ids_offset = T.int32()
        length_info_offset = T.int32()
        k_start_offset = T.int32()
        q_positions_offset = T.int32()
        q = T.match_buffer(q_h, (batch, heads, d), dtype)
        pages = T.match_buffer(pages_h, (num_pages, 2, kv_heads, PAGE, d), dtype)
        page_indptr = T.match_buffer(page_indptr_h, (batch + 1,), "int32", elem_offset=page_indptr_offset)
        page_ids = T.match_buffer(page_ids_h, (num_ids,), "int32", elem_offset=page_ids_offset)
        length_info = T.match_buffer(
            length_info_h, length_info_shape(sliding, batch), "int32", elem_offset=length_info_offset
        )
        k_start = T.match_buffer(k_start_h, (batch,), "int32", elem_offset=k_start_offset)
        q_positions = T.match_buffer(q_positions_h, (batch,), "int32", elem_offset=q_positions_offset)
        output = T.match_buffer(output_h, (batch, heads, d), dtype)
        lse = T.match_buffer(lse_h, (batch, heads), "float32")
        flat = T.decl_buffer((num_pages * shape.page_elements,), dtype, data=pages.data)
        with T.sblock("root"):
            T.reads()
            T.writes()
            parts = T.meta_var(
                T.max(1, T.min(WORK_ITEMS // (batch * kv_heads * tiles), num_ids // (batch * MIN_PAGES)))
            )
            part_output = T.sblock_alloc_buffer((batch * parts, heads, d), "float32")
            part_lse = T.sblock_alloc_buffer((batch * parts, heads), "float32")
            for u in T.parallel(batch * kv_heads * tiles * parts):
                with T.sblock("tile"):
                    T.reads()
                    T.writes()
                    state = T.meta_var(tile.allocate())
                    b: T.let[T.int32] = u // (kv_heads * tiles * parts)
                    head: T.let[T.int32] = u // (tiles * parts) % kv_heads
                    first_row: T.let[T.int32] = u // parts % tiles * rows
                    part: T.let[T.int32] = u % parts
                    length: T.let[T.int32] = cached_length(length_info, page_indptr, b, sliding)
                    offset: T.let[T.int32] = page_offset(length_info, b, sliding)
                    tile.clear(state)
                    for r in T.serial(rows):
                        tile.load_row(state, r, q, b, head * group + T.min(first_row + r, group - 1))
                        state.high[r] = offset + length
                        state.low[r] = offset
                        if sliding:
                            # k_start = max(0, end - window). Where that is 0, either the first token is at 0, or
                            # nothing is hidden and a position that is too small does no harm.
                            first: T.let[T.int32] = T.if_then_else(k_start[b] > 0, k_start[b] + window - length, 0)
                            state.low[r] = offset + T.max(q_positions[b] + 1 - window - first, 0)
                    tile.span(state)
                    page_low: T.let[T.int32] = state.span[0] // PAGE
                    page_count: T.let[T.int32] = T.max((state.span[1] + PAGE - 1) // PAGE - page_low, 0)
                    for p in T.serial(page_low + page_count * part // parts, page_low + page_count * (part + 1) // parts):
                        page: T.let[T.int32] = page_ids[page_indptr[b] + p]
                        k_at: T.let[T.int32] = page * shape.page_elements + head * shape.side_elements
                        tile.scores(state, flat, k_at, sm_scale)
                        tile.soften(state, between(state, p * PAGE))
                        tile.values(
                            state, flat, k_at + kv_heads * shape.side_elements, T.min(PAGE, state.span[1] - p * PAGE)
                        )
                    for r in T.serial(rows):
                        if first_row + r < group:
                            tile.finish_row(
                                state, r, part_output, part_lse, b * parts + part, head * group + first_row + r
                            )
            for u in T.parallel(batch * heads):
                with T.sblock("merge"):
                    T.reads()
                    T.writes()
                    m = T.sblock_alloc_buffer((1,), "float32")
                    total = T.sblock_alloc_buffer((1,), "float32")
                    weight = T.sblock_alloc_buffer((1,), "float32")
                    sums = T.sblock_alloc_buffer((d,), "float32")
                    b: T.let[T.int32] = u // heads
                    h: T.let[T.int32] = u % heads
                    m[0] = part_lse[b * parts, h]
                    for i in T.serial(1, parts):
                        m[0] = T.max(m[0], part_lse[b * parts + i, h])
                    total[0] = T.float32(0)
                    for x in T.serial(d):
                        sums[x] = T.float32(0)
                    for i in T.serial(parts):
                        weight[0] = T.exp2(part_lse[b * parts + i, h] - m[0])
                        total[0] = total[0] + weight[0]
                        for x in T.serial(d // lanes):
                            sums[T.ramp(x * lanes, 1, lanes)] = sums.vload(
                                [x * lanes], dtype=f"float32x{lanes}"
                            ) + T.broadcast(weight[0], lanes) * part_output.vload(
                                [b * parts + i, h, x * lanes], dtype=f"float32x{lanes}"
                            )
                    lse[b, h] = m[0] + T.log2(total[0])
                    for x in T.serial(d // lanes):
                        output[b, h, T.ramp(x * lanes, 1, lanes)] = T.Cast(
                            f"{dtype}x{lanes}",
                            sums.vload([x * lanes], dtype=f"float32x{lanes}")
                            * T.broadcast(T.float32(1) / total[0], lanes),
                        )

    return attention_decode
