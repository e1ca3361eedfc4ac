"""Kernels that move keys and values: fused projections and cache pages go in, filled or copied pages come out.

A page holds 16 tokens of one layer and has shape (2, kv_heads, 16, head_dim) for the runtime, which does not look into
it. In truth it holds, for one KV head after the other, the keys of that head and then its values: what one thread reads
lies together. The values are stored one token after the other. **The keys of a head are stored transposed**, as
(head_dim, 16): one vector load then gives one feature of all 16 tokens, so a score needs no horizontal sum. Only the
kernels of this package read or write pages, and all of them see this layout.
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, flattened, parallel_for, when
from argosy.compiler.kernels.cpu.lanes import LANES, load, store
from argosy.compiler.kernels.kv import arguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

FEW_TOKENS = 32  # that one thread moves in the time it takes to wake the others


def key_slot(shape: AttentionShape, page: tirx.Expr, head: tirx.Expr, slot: tirx.Expr, x: tirx.Expr) -> tirx.Expr:
    """Where feature x of the key in `slot` of a page is."""
    return page * shape.page_elements + head * shape.head_elements + x * PAGE_SIZE + slot


def value_slot(shape: AttentionShape, page: tirx.Expr, head: tirx.Expr, slot: tirx.Expr, x: tirx.Expr) -> tirx.Expr:
    """Where feature x of the value in `slot` of a page is."""
    values = page * shape.page_elements + head * shape.head_elements + shape.side_elements
    return values + slot * shape.head_dim + x


def store_token(
    shape: AttentionShape,
    flat: tirx.Buffer,
    page: tirx.Expr,
    slot: tirx.Expr,
    head: tirx.Expr,
    k: tirx.Buffer,
    v: tirx.Buffer,
    token: tirx.Expr,
) -> None:
    """Writes k[token, head] and v[token, head] into a slot of a page."""
    with T.serial(shape.head_dim) as x:
        T.buffer_store(flat, k[token, head, x], [key_slot(shape, page, head, slot, x)])
    lanes = shape.lanes
    with T.serial(shape.head_dim // lanes) as x:
        value = load(v, token, head, x * lanes, lanes=lanes)
        store(flat, value, value_slot(shape, page, head, slot, x * lanes), lanes=lanes)


def append(shape: AttentionShape) -> tirx.PrimFunc:
    """Write the keys and values of new tokens into their slots; slot -1 means: not kept."""
    with Kernel("kv_append") as kernel:
        n, pages, k, v, slots = arguments.append(kernel, shape)
        flat = flattened(pages)

        def append_token(i: tirx.Var) -> None:
            with when(slots[i] != -1), T.serial(shape.kv_heads) as head:
                store_token(shape, flat, slots[i] // PAGE_SIZE, slots[i] % PAGE_SIZE, head, k, v, i)

        parallel_for(n, FEW_TOKENS, append_token)
    return kernel.function


def split_qkv(shape: AttentionShape) -> tirx.PrimFunc:
    """Split fused (n, heads + 2 kv_heads, d) into q, k and v; the model has already rotated q and k."""
    heads, kv_heads, lanes = shape.heads, shape.kv_heads, shape.lanes
    with Kernel("kv_split_qkv") as kernel:
        n, qkv, q, k, v = arguments.split_qkv(kernel, shape)

        def split_token(i: tirx.Var) -> None:
            for part, first, count in ((q, 0, heads), (k, heads, kv_heads), (v, heads + kv_heads, kv_heads)):
                with T.serial(count) as h, T.serial(shape.head_dim // lanes) as x:
                    store(part, load(qkv, i, first + h, x * lanes, lanes=lanes), i, h, x * lanes, lanes=lanes)

        parallel_for(n, FEW_TOKENS, split_token)
    return kernel.function


def copy_page(shape: AttentionShape) -> tirx.PrimFunc:
    """Copy a page when a sequence forks inside it. All 16 slots are copied: those beyond `length` are never read."""
    with Kernel("kv_copy_page") as kernel:
        pages, source, target = arguments.copy_page(kernel, shape)
        flat = flattened(pages)
        with T.serial(shape.page_elements // LANES) as x:
            page = load(flat, source * shape.page_elements + x * LANES)
            store(flat, page, target * shape.page_elements + x * LANES)
    return kernel.function


def compact(shape: AttentionShape) -> tirx.PrimFunc:
    """Move the accepted tokens of a token tree to the front of their tree, in order.

    `moves` (2, n) holds source and target slots; the moves of sequence b are `indptr[b]` to `indptr[b + 1]`.
    """
    with Kernel("kv_compact") as kernel:
        pages, indptr, moves, batch = arguments.compact(kernel, shape)
        flat = flattened(pages)
        with T.serial(indptr[batch]) as i, T.serial(shape.kv_heads) as head, T.serial(shape.head_dim) as x:
            for place in (key_slot, value_slot):
                source = place(shape, moves[0, i] // PAGE_SIZE, head, moves[0, i] % PAGE_SIZE, x)
                target = place(shape, moves[1, i] // PAGE_SIZE, head, moves[1, i] % PAGE_SIZE, x)
                T.buffer_store(flat, flat[source], [target])
    return kernel.function


def read_back(shape: AttentionShape, num_layers: int) -> tirx.PrimFunc:
    """Read the keys and values at given slots into one layer of (num_layers, n, kv_heads, d) each, for debugging."""
    with Kernel("kv_read_back") as kernel:
        n, pages, slots, k, v, layer = arguments.read_back(kernel, shape, num_layers)
        flat = flattened(pages)
        with T.serial(n) as i, T.serial(shape.kv_heads) as head, T.serial(shape.head_dim) as x:
            for part, place in ((k, key_slot), (v, value_slot)):
                slot = place(shape, slots[i] // PAGE_SIZE, head, slots[i] % PAGE_SIZE, x)
                T.buffer_store(part, flat[slot], [layer, i, head, x])
    return kernel.function


def checked_empty(shape: AttentionShape) -> tirx.PrimFunc:
    """The scalar by which the runtime learns the dtype of the cache, if the kernels can serve a cache so configured."""
    with Kernel("kv_checked_empty") as kernel, arguments.checked_empty(kernel, shape) as empty:
        T.buffer_store(empty, tirx.const(0, shape.dtype), [])
    return kernel.function
