"""Move keys and values: into pages, between pages, and out of them.

A page holds 16 tokens of one layer and has shape (2, kv_heads, 16, head_dim) for the runtime, which does not look into
it. In fact it holds, for one KV head after the other, the keys of that head and then its values, so that the data of
one thread lies together. The values are stored one token after the other. **The keys of a head are stored transposed**,
as (head_dim, 16): one vector load then gives one feature of all 16 tokens, so a score needs no horizontal sum. Only the
kernels of this package read or write pages, and all of them use this layout.
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, flattened, parallel_for, view, when
from argosy.compiler.kernels.cpu.attention.step import INDEX_ELEMENTS, NewTokens
from argosy.compiler.kernels.cpu.lanes import LANES, load, store
from argosy.compiler.kernels.kv import arguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

SERIAL_TOKENS = 32  # up to here, waking the thread pool costs more than it saves


def key_slot(shape: AttentionShape, page: tirx.Expr, head: tirx.Expr, slot: tirx.Expr, x: tirx.Expr) -> tirx.Expr:
    """Return the place of feature x of the key in `slot` of a page."""
    return page * shape.page_elements + head * shape.head_elements + x * PAGE_SIZE + slot


def value_slot(shape: AttentionShape, page: tirx.Expr, head: tirx.Expr, slot: tirx.Expr, x: tirx.Expr) -> tirx.Expr:
    """Return the place of feature x of the value in `slot` of a page."""
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
    """Write k[token, head] and v[token, head] into a slot of a page."""
    with T.serial(shape.head_dim) as x:
        T.buffer_store(flat, k[token, head, x], [key_slot(shape, page, head, slot, x)])
    lanes = shape.lanes
    with T.serial(shape.head_dim // lanes) as x:
        value = load(v, token, head, x * lanes, lanes=lanes)
        store(flat, value, value_slot(shape, page, head, slot, x * lanes), lanes=lanes)


def append(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the kernel that writes keys and values of new tokens into their slots, unless they are there already."""
    with Kernel("kv_append") as kernel:
        n, pages, k, v, slots = arguments.append(kernel, shape)
        flat = flattened(pages)
        new = NewTokens(view(slots, (INDEX_ELEMENTS,)), slots.elem_offset, n)

        def append_token(i: tirx.Var) -> None:
            with T.serial(shape.kv_heads) as head:
                store_token(shape, flat, slots[i] // PAGE_SIZE, slots[i] % PAGE_SIZE, head, k, v, i)

        with when(tirx.Not(new.are_taken())):
            parallel_for(n, SERIAL_TOKENS, append_token)
    return kernel.function


def split_qkv(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the kernel that splits qkv (n, heads + 2 kv_heads, d); the model has already rotated q and k."""
    heads, kv_heads, lanes = shape.heads, shape.kv_heads, shape.lanes
    with Kernel("kv_split_qkv") as kernel:
        n, qkv, q, k, v = arguments.split_qkv(kernel, shape)

        def split_token(i: tirx.Var) -> None:
            for part, first, count in ((q, 0, heads), (k, heads, kv_heads), (v, heads + kv_heads, kv_heads)):
                with T.serial(count) as h, T.serial(shape.head_dim // lanes) as x:
                    store(part, load(qkv, i, first + h, x * lanes, lanes=lanes), i, h, x * lanes, lanes=lanes)

        parallel_for(n, SERIAL_TOKENS, split_token)
    return kernel.function


def copy_page(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the kernel that copies a page in which a sequence forks: all 16 slots, as unused ones are never read."""
    with Kernel("kv_copy_page") as kernel:
        pages, source, target = arguments.copy_page(kernel, shape)
        flat = flattened(pages)
        with T.serial(shape.page_elements // LANES) as x:
            page = load(flat, source * shape.page_elements + x * LANES)
            store(flat, page, target * shape.page_elements + x * LANES)
    return kernel.function


def compact(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the kernel that moves the accepted tokens of a token tree to the front of their tree, in order.

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
    """Build the kernel that reads slots into one layer of k and v (num_layers, n, kv_heads, d), for debugging."""
    with Kernel("kv_read_back") as kernel:
        n, pages, slots, k, v, layer = arguments.read_back(kernel, shape, num_layers)
        flat = flattened(pages)
        with T.serial(n) as i, T.serial(shape.kv_heads) as head, T.serial(shape.head_dim) as x:
            for part, place in ((k, key_slot), (v, value_slot)):
                slot = place(shape, slots[i] // PAGE_SIZE, head, slots[i] % PAGE_SIZE, x)
                T.buffer_store(part, flat[slot], [layer, i, head, x])
    return kernel.function


def checked_empty(shape: AttentionShape) -> tirx.PrimFunc:
    """Build the check of the cache's settings, whose scalar result gives the runtime the dtype of the cache."""
    with Kernel("kv_checked_empty") as kernel, arguments.checked_empty(kernel, shape) as empty:
        T.buffer_store(empty, tirx.const(0, shape.dtype), [])
    return kernel.function
