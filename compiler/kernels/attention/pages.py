"""Kernels that move keys and values: fused projections and cache pages go in, filled or copied pages come out.

A page holds 16 tokens of one layer and has shape (2, kv_heads, 16, head_dim): keys, then values. The values of a head
are stored as that shape says, one token after the other. **The keys of a head are stored transposed**, as
(head_dim, 16): one vector load then gives one feature of all 16 tokens, so a score needs no horizontal sum. Only the
kernels of this package read or write pages, and all of them see this layout.
"""

import tvm
from tvm.script import tirx as T

from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape


def make_store_token(shape: AttentionShape):
    """A macro that writes one KV head of one token into a slot of a page; `flat` is the pages as one dimension."""
    d, kv_heads, lanes = shape.head_dim, shape.kv_heads, shape.lanes
    vector = f"{shape.dtype}x{lanes}"

    @T.macro
    def store_token(flat, page, slot, head, k_data, v_data, token):
        for x in T.serial(d):
            flat[(page * 2 * kv_heads + head) * PAGE * d + x * PAGE + slot] = k_data[token, head, x]
        for x in T.serial(d // lanes):
            flat[T.ramp(((page * 2 + 1) * kv_heads + head) * PAGE * d + slot * d + x * lanes, 1, lanes)] = v_data.vload(
                [token, head, x * lanes], dtype=vector
            )

    return store_token


def append(shape: AttentionShape) -> tvm.tirx.PrimFunc:
    """Write the keys and values of new tokens into their slots; position -1 means: not kept."""
    d, kv_heads, dtype = shape.head_dim, shape.kv_heads, shape.dtype
    store_token = make_store_token(shape)

    @T.prim_func(s_tir=True)
    def kv_append(pages_h: T.handle, k_h: T.handle, v_h: T.handle, positions_h: T.handle):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        n = T.int32()
        num_pages = T.int32()
        positions_offset = T.int32()
        pages = T.match_buffer(pages_h, (num_pages, 2, kv_heads, PAGE, d), dtype)
        k_data = T.match_buffer(k_h, (n, kv_heads, d), dtype)
        v_data = T.match_buffer(v_h, (n, kv_heads, d), dtype)
        positions = T.match_buffer(positions_h, (n,), "int32", elem_offset=positions_offset)
        flat = T.decl_buffer((num_pages * shape.page_elements,), dtype, data=pages.data)
        with T.sblock("root"):
            T.reads()
            T.writes()
            for head in T.parallel(kv_heads):
                for i in T.serial(n):
                    if positions[i] != -1:
                        store_token(flat, positions[i] // PAGE, positions[i] % PAGE, head, k_data, v_data, i)

    return kv_append


def split_qkv(shape: AttentionShape) -> tvm.tirx.PrimFunc:
    """Split fused (n, heads + 2 kv_heads, d) into q, k and v; the model has already rotated q and k.

    The cache calls this where it would rotate, hence the positions and the flag, which is 0 with RopeMode.NONE.
    """
    d, heads, kv_heads, dtype = shape.head_dim, shape.heads, shape.kv_heads, shape.dtype
    lanes = shape.lanes
    vector = f"{dtype}x{lanes}"

    @T.prim_func(s_tir=True)
    def kv_split_qkv(
        qkv_h: T.handle, positions_h: T.handle, q_h: T.handle, k_h: T.handle, v_h: T.handle, apply_rope: T.int64
    ):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        n = T.int32()
        positions_offset = T.int32()
        qkv = T.match_buffer(qkv_h, (n, heads + 2 * kv_heads, d), dtype)
        positions = T.match_buffer(positions_h, (n,), "int32", elem_offset=positions_offset)
        q = T.match_buffer(q_h, (n, heads, d), dtype)
        k = T.match_buffer(k_h, (n, kv_heads, d), dtype)
        v = T.match_buffer(v_h, (n, kv_heads, d), dtype)
        with T.sblock("root"):
            T.reads()
            T.writes()
            for i in T.serial(n):
                for h, x in T.grid(heads, d // lanes):
                    q[i, h, T.ramp(x * lanes, 1, lanes)] = qkv.vload([i, h, x * lanes], dtype=vector)
                for h, x in T.grid(kv_heads, d // lanes):
                    k[i, h, T.ramp(x * lanes, 1, lanes)] = qkv.vload([i, heads + h, x * lanes], dtype=vector)
                    v[i, h, T.ramp(x * lanes, 1, lanes)] = qkv.vload([i, heads + kv_heads + h, x * lanes], dtype=vector)

    return kv_split_qkv


def copy_page(shape: AttentionShape) -> tvm.tirx.PrimFunc:
    """Copy a page when a sequence forks inside it. All 16 slots are copied: those beyond `length` are never read."""
    dtype = shape.dtype
    vector, lanes = f"{dtype}x16", 16

    @T.prim_func(s_tir=True)
    def kv_copy_page(pages_h: T.handle, source: T.int64, target: T.int64, length: T.int64):
        T.func_attr({"tirx.is_scheduled": True})
        num_pages = T.int64()
        pages = T.match_buffer(pages_h, (num_pages, 2, shape.kv_heads, PAGE, shape.head_dim), dtype)
        flat = T.decl_buffer((num_pages * shape.page_elements,), dtype, data=pages.data)
        with T.sblock("root"):
            T.reads()
            T.writes()
            for x in T.serial(shape.page_elements // lanes):
                flat[T.ramp(target * shape.page_elements + x * lanes, 1, lanes)] = flat.vload(
                    [source * shape.page_elements + x * lanes], dtype=vector
                )

    return kv_copy_page


def compact(shape: AttentionShape) -> tvm.tirx.PrimFunc:
    """Move the accepted tokens of a token tree to the front of their sequence, in order.

    `moves` (2, n) holds source and target slots; the moves of sequence b are `indptr[b]` to `indptr[b + 1]`.
    """
    d, kv_heads, dtype = shape.head_dim, shape.kv_heads, shape.dtype

    @T.prim_func(s_tir=True)
    def kv_compact(pages_h: T.handle, indptr_h: T.handle, moves_h: T.handle, batch: T.int32):
        T.func_attr({"tirx.is_scheduled": True})
        num_pages = T.int32()
        n = T.int32()
        indptr_offset = T.int32()
        moves_offset = T.int32()
        pages = T.match_buffer(pages_h, (num_pages, 2, kv_heads, PAGE, d), dtype)
        indptr = T.match_buffer(indptr_h, (batch + 1,), "int32", elem_offset=indptr_offset)
        moves = T.match_buffer(moves_h, (2, n), "int32", elem_offset=moves_offset)
        flat = T.decl_buffer((num_pages * shape.page_elements,), dtype, data=pages.data)
        with T.sblock("root"):
            T.reads()
            T.writes()
            for i in T.serial(indptr[batch]):
                for head, x in T.grid(kv_heads, d):
                    source_page = T.meta_var(moves[0, i] // PAGE * shape.page_elements)
                    target_page = T.meta_var(moves[1, i] // PAGE * shape.page_elements)
                    k_head = T.meta_var(head * shape.side_elements + x * PAGE)
                    v_head = T.meta_var((kv_heads + head) * shape.side_elements + x)
                    flat[target_page + k_head + moves[1, i] % PAGE] = flat[source_page + k_head + moves[0, i] % PAGE]
                    flat[target_page + v_head + moves[1, i] % PAGE * d] = flat[
                        source_page + v_head + moves[0, i] % PAGE * d
                    ]

    return kv_compact


def read_back(shape: AttentionShape, num_layers: int) -> tvm.tirx.PrimFunc:
    """Read the keys and values at given slots of one layer, for debugging: (num_layers, n, kv_heads, d) each."""
    d, kv_heads, dtype = shape.head_dim, shape.kv_heads, shape.dtype

    @T.prim_func(s_tir=True)
    def kv_read_back(pages_h: T.handle, positions_h: T.handle, k_h: T.handle, v_h: T.handle, layer: T.int64):
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        num_pages = T.int32()
        n = T.int32()
        positions_offset = T.int32()
        pages = T.match_buffer(pages_h, (num_pages, 2, kv_heads, PAGE, d), dtype)
        positions = T.match_buffer(positions_h, (n,), "int32", elem_offset=positions_offset)
        k_data = T.match_buffer(k_h, (num_layers, n, kv_heads, d), dtype)
        v_data = T.match_buffer(v_h, (num_layers, n, kv_heads, d), dtype)
        flat = T.decl_buffer((num_pages * shape.page_elements,), dtype, data=pages.data)
        with T.sblock("root"):
            T.reads()
            T.writes()
            for i, head, x in T.grid(n, kv_heads, d):
                page = T.meta_var(positions[i] // PAGE * shape.page_elements)
                slot = T.meta_var(positions[i] % PAGE)
                k_data[layer, i, head, x] = flat[page + head * shape.side_elements + x * PAGE + slot]
                v_data[layer, i, head, x] = flat[page + (kv_heads + head) * shape.side_elements + slot * d + x]

    return kv_read_back
