"""Attend from a chunk of query tokens per sequence to the cached pages."""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, flattened
from argosy.compiler.kernels.cpu.attention.chunk import ChunkTiles
from argosy.compiler.kernels.kv.arguments import PagedArguments
from argosy.compiler.kernels.kv.shape import AttentionShape


def paged_prefill(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Build the attention of a chunk to the tokens in the cache."""
    with Kernel("attention_prefill_sliding" if sliding else "attention_prefill") as kernel:
        args = PagedArguments(kernel, shape, sliding)
        cache = args.cache

        def bounds(b: tirx.Expr) -> Callable[[tirx.Expr], tuple[tirx.Expr, tirx.Expr]]:
            length, offset = T.bind(cache.length(b)), T.bind(cache.offset(b))
            return args.visible_slots(b, offset, length, args.is_first_block())

        tiles = ChunkTiles(shape, args.q, args.q_indptr, args.batch, args.n)
        tiles.attend(lambda i: i, args.scale, flattened(cache.pages), bounds, cache.keys, args.output, args.lse)
    return kernel.function
