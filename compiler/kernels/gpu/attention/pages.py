"""Build the kernels that move keys and values into, between and out of the pages of the cache.

A page holds 16 tokens of one layer: the keys of a KV head, one token after the other, its values, then the next head.
"""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, flattened, when
from argosy.compiler.kernels.gpu.launch import elementwise
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.kv import arguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape


def slot_place(shape: AttentionShape, page: tirx.Expr, head: tirx.Expr, slot: tirx.Expr) -> tirx.Expr:
    """Return where the key in `slot` of a page begins; its value begins `shape.side_elements` behind it."""
    return page * shape.page_elements + head * shape.head_elements + slot * shape.head_dim


def append(traits: GpuTraits, shape: AttentionShape) -> tirx.PrimFunc:
    """Write the keys and values of new tokens into their slots; slot -1 keeps none."""
    d, width = shape.head_dim, shape.kv_heads * shape.head_dim
    with Kernel("kv_append") as kernel:
        n, pages, k, v, slots = arguments.append(kernel, shape)
        flat = flattened(pages)
        with elementwise(traits, n * width) as i:
            token, head, x = T.bind(i // width), T.bind(i // d % shape.kv_heads), T.bind(i % d)
            slot = T.bind(slots[token])
            with when(slot >= 0):
                place = T.bind(slot_place(shape, slot // PAGE_SIZE, head, slot % PAGE_SIZE) + x)
                T.buffer_store(flat, k[token, head, x], [place])
                T.buffer_store(flat, v[token, head, x], [place + shape.side_elements])
    return kernel.function


def split_qkv(traits: GpuTraits, shape: AttentionShape) -> tirx.PrimFunc:
    """Split fused (n, heads + 2 kv_heads, d) into q, k and v; the model has already rotated q and k."""
    d, heads, kv_heads = shape.head_dim, shape.heads, shape.kv_heads
    every = heads + 2 * kv_heads
    with Kernel("kv_split_qkv") as kernel:
        n, qkv, q, k, v = arguments.split_qkv(kernel, shape)
        with elementwise(traits, n * every * d) as i:
            token, head, x = T.bind(i // (every * d)), T.bind(i // d % every), T.bind(i % d)
            for part, first, count in ((q, 0, heads), (k, heads, kv_heads), (v, heads + kv_heads, kv_heads)):
                with when(tirx.all(head >= first, head < first + count)):
                    T.buffer_store(part, qkv[token, head, x], [token, head - first, x])
    return kernel.function


def copy_page(traits: GpuTraits, shape: AttentionShape) -> tirx.PrimFunc:
    """Copy a page when a sequence forks inside it. All 16 slots are copied: those beyond `length` are never read."""
    with Kernel("kv_copy_page") as kernel:
        pages, source, target = arguments.copy_page(kernel, shape)
        flat = flattened(pages)
        with elementwise(traits, shape.page_elements) as i:
            T.buffer_store(flat, flat[source * shape.page_elements + i], [target * shape.page_elements + i])
    return kernel.function


def read_back(traits: GpuTraits, shape: AttentionShape, num_layers: int) -> tirx.PrimFunc:
    """Read the keys and values at given slots into one layer of (num_layers, n, kv_heads, d) each, for debugging."""
    d, width = shape.head_dim, shape.kv_heads * shape.head_dim
    with Kernel("kv_read_back") as kernel:
        n, pages, slots, k, v, layer = arguments.read_back(kernel, shape, num_layers)
        flat = flattened(pages)
        with elementwise(traits, n * width) as i:
            token, head, x = T.bind(i // width), T.bind(i // d % shape.kv_heads), T.bind(i % d)
            place = T.bind(slot_place(shape, slots[token] // PAGE_SIZE, head, slots[token] % PAGE_SIZE) + x)
            T.buffer_store(k, flat[place], [layer, token, head, x])
            T.buffer_store(v, flat[place + shape.side_elements], [layer, token, head, x])
    return kernel.function


def no_trees(shape: AttentionShape) -> tirx.PrimFunc:
    """Refuse, on the host, to move the accepted tokens of a token tree."""
    with Kernel("kv_no_trees") as kernel:
        _, _, _, batch = arguments.compact(kernel, shape)
        with T.Assert(batch < 0, "this target has no kernels for token trees"):
            T.evaluate(0)
    return kernel.function


def checked_empty(shape: AttentionShape) -> tirx.PrimFunc:
    """Check on the host that the kernels can serve a cache so configured.

    The result is a scalar from which the runtime learns the dtype of the cache. Its value is neither used nor written.
    """
    with Kernel("kv_checked_empty") as kernel, arguments.checked_empty(kernel, shape):
        T.evaluate(0)
    return kernel.function


def merge_state(traits: GpuTraits, shape: AttentionShape) -> tirx.PrimFunc:
    """Merge v_other and its log2 weight s_other into v (n, heads, d) and s (n, heads).

    A thread merges a whole row. Where several threads share one, as in TVM's kernel, they read s while another thread
    overwrites it, and threads of a later subgroup then weigh by the wrong number.
    """
    d, heads, dtype = shape.head_dim, shape.heads, shape.dtype
    with Kernel("attention_merge_state") as kernel:
        n, v, s, v_other, s_other = arguments.merge_state(kernel, shape)
        with elementwise(traits, n * heads, 64) as row:
            i, h = T.bind(row // heads), T.bind(row % heads)
            mine, other = T.bind(s[i, h]), T.bind(s_other[i, h])
            larger = T.bind(T.max(mine, other))
            weight, weight_other = T.bind(T.exp2(mine - larger)), T.bind(T.exp2(other - larger))
            both = T.bind(weight + weight_other)
            T.buffer_store(s, larger + T.log2(both), [i, h])
            with T.serial(d) as x:
                merged = T.Cast("float32", v[i, h, x]) * weight + T.Cast("float32", v_other[i, h, x]) * weight_other
                T.buffer_store(v, T.Cast(dtype, merged / both), [i, h, x])
    return kernel.function
