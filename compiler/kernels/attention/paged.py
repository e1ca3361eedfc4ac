"""Prefill against the cache: several query tokens per sequence and cached pages go in, output and LSE come out.

Also here: how the runtime describes to paged kernels which tokens its pages hold.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.attention.chunk import ChunkTiles
from argosy.compiler.kernels.attention.kernel import Kernel, flattened, size
from argosy.compiler.kernels.attention.shape import PAGE, AttentionShape


def length_info_shape(sliding: bool, batch: tirx.Expr) -> tuple[int | tirx.Expr, ...]:
    """Per sequence: the used slots of the last page; for sliding layers, whose kernels get only the last pages of the
    window, also the first slot that is in the window, and a sink size that is always 0 here."""
    return (3, batch) if sliding else (batch,)


def page_offset(length_info: tirx.Buffer, b: tirx.Expr, sliding: bool) -> tirx.Expr:
    """The slot of the first token that the runtime offers."""
    return length_info[1, b] if sliding else T.int32(0)


def cached_length(length_info: tirx.Buffer, page_indptr: tirx.Buffer, b: tirx.Expr, sliding: bool) -> tirx.Expr:
    """How many tokens the runtime offers."""
    num_pages = page_indptr[b + 1] - page_indptr[b]
    used = length_info[0, b] if sliding else length_info[b]
    length = (num_pages - 1) * PAGE + used - page_offset(length_info, b, sliding)
    return T.if_then_else(num_pages == 0, 0, length)


def paged_prefill(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Attention of a chunk to what the cache holds.

    Which keys a query sees is decided by positions in the sequence: not after the query, and in a sliding layer less
    than the window before it. Neither the flag `causal` nor "all of the cache" would do: see docs/notes/kv_cache.md.
    """
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

        def bounds(b: tirx.Expr) -> Callable[[tirx.Expr], tuple[tirx.Expr, tirx.Expr]]:
            length = T.bind(cached_length(length_info, page_indptr, b, sliding))
            offset = T.bind(page_offset(length_info, b, sliding))
            first = k_start[b]
            if sliding:
                first = first_position(shape, first, length, q_positions[q_indptr[b]], is_first_block(q_indptr, n))
            first = T.bind(first)

            def of_token(token: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
                end = T.bind(q_positions[token] + 1 - first)  # tokens of the cache up to the query
                low = T.max(end - shape.window, 0) if sliding else 0
                return offset + low, offset + T.min(length, end)

            return of_token

        def keys(b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
            return page_ids[page_indptr[b] + p] * shape.page_elements + head * shape.head_elements

        tiles = ChunkTiles(shape, q, q_indptr, batch, n)
        tiles.attend(lambda i: i, scale, flattened(pages), bounds, keys, output, lse)
    return kernel.function


def first_position(
    shape: AttentionShape, k_start: tirx.Expr, length: tirx.Expr, next_position: tirx.Expr, is_first: tirx.Expr
) -> tirx.Expr:
    """The position of the first token that the runtime offers to a sliding layer.

    It says only `k_start` = max(0, end - window). If that is 0, the tokens are the first of the sequence, or they are
    the last before the chunk.
    """
    otherwise = T.if_then_else(is_first, 0, next_position - length)
    return T.if_then_else(k_start > 0, k_start + shape.window - length, otherwise)


def is_first_block(q_indptr: tirx.Buffer, n: tirx.Expr) -> tirx.Expr:
    """Whether this call is about the first blocks of the sequences (a sequence has up to two, see the notes).

    Nothing says so but the place of the arguments: the runtime lays its index arrays out in one buffer, the n query
    positions first, rounded up to 4 elements, and behind them the q_indptr of the first blocks.
    """
    return q_indptr.elem_offset == (n + 3) // 4 * 4
