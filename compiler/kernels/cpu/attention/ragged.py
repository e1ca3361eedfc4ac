"""Attend from new tokens to each other, in sequences that have no other tokens."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, scratch, when
from argosy.compiler.kernels.cpu.attention.chunk import ChunkTiles
from argosy.compiler.kernels.cpu.attention.pages import store_token
from argosy.compiler.kernels.cpu.attention.step import leave_new_tokens
from argosy.compiler.kernels.cpu.attention.worklist import TileList
from argosy.compiler.kernels.kv.arguments import RaggedArguments, RaggedTreeArguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape

LONG_CHUNK = "a prefill chunk is longer than the sliding window"


def ragged_prefill(shape: AttentionShape) -> tirx.PrimFunc:
    """Build causal attention of a chunk to itself, for q (n, heads, d) and k, v (n, kv_heads, d), sequence by sequence.

    The cache takes one such kernel for full and sliding layers, so a chunk longer than the window is refused. Chunks
    that continue a sequence are left to the kernel that sees its pages (`step.py`).
    """
    with Kernel("attention_prefill_ragged") as kernel:
        args = RaggedArguments(kernel, shape)
        refuse_long_chunks(shape, args)
        leave_new_tokens(args, tree=False)
        chunk = PackedChunk(shape, args)
        tiles = ChunkTiles(shape, args.q, args.q_indptr, args.batch, args.n, args.batch)
        tiles.attend(
            args.scale,
            chunk.flat,
            chunk.is_whole,
            lambda token: (T.int32(0), args.q_positions[token] + 1),
            chunk.keys,
            args.output,
            args.lse,
        )
    return kernel.function


def refuse_long_chunks(shape: AttentionShape, args: RaggedArguments | RaggedTreeArguments) -> None:
    """Assert that no sequence has more new tokens than the window."""
    if shape.window is None:
        return
    with T.serial(args.batch) as b, T.Assert(args.q_indptr[b + 1] - args.q_indptr[b] <= shape.window, LONG_CHUNK):
        T.evaluate(0)


class PackedChunk:
    """The keys and values (n, kv_heads, d) of sequences that start, packed into pages in the layout of the cache."""

    def __init__(self, shape: AttentionShape, args: RaggedArguments | RaggedTreeArguments) -> None:
        self.shape = shape
        self.args = args
        indptr = args.kv_indptr
        self.pages = TileList(indptr, args.batch, args.n_kv, 1, PAGE_SIZE)
        self.flat = scratch(self.pages.capacity * shape.page_elements, shape.dtype)
        with T.parallel(self.pages.count * shape.kv_heads) as u:
            page = T.bind(u // shape.kv_heads)
            b, first_token = self.pages.bind(page)
            token = T.bind(indptr[b] + first_token)
            with when(self.is_whole(b)), T.serial(T.min(PAGE_SIZE, indptr[b + 1] - token)) as slot:
                store_token(shape, self.flat, page, slot, u % shape.kv_heads, args.k, args.v, token + slot)

    def is_whole(self, b: tirx.Expr) -> tirx.Expr:
        """Return whether sequence b starts with this chunk."""
        return self.args.q_positions[self.args.q_indptr[b]] == 0

    def keys(self, b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
        """Return the place at which the keys of page p of sequence b start."""
        return (self.pages.first_tile[b] + p) * self.shape.page_elements + head * self.shape.head_elements
