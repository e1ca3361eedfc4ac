"""Attend from the new tokens of sequences to all tokens of them, in pages."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, flattened, parallel_for, when
from argosy.compiler.kernels.cpu.attention.chunk import ChunkTiles
from argosy.compiler.kernels.cpu.attention.pages import SERIAL_TOKENS, store_token
from argosy.compiler.kernels.cpu.attention.step import Step, hide
from argosy.compiler.kernels.cpu.attention.tree import attend_new_trees
from argosy.compiler.kernels.kv.arguments import PagedArguments
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape


def paged_prefill(shape: AttentionShape, sliding: bool) -> tirx.PrimFunc:
    """Build the attention of new tokens to their whole sequences. It first puts the new tokens into their pages."""
    with Kernel("attention_prefill_sliding" if sliding else "attention_prefill") as kernel:
        args = PagedArguments(kernel, shape, sliding)
        step = Step(shape, args.cache, args.n, args.batch)
        flat = flattened(args.cache.pages)

        def bounds(token: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr]:
            end = T.bind(args.cache.q_positions[token] + 1)
            return T.max(end - shape.window, 0) if sliding else T.int32(0), end

        with T.If(step.is_last):
            with T.Then():
                with when(step.continues != 0):
                    _keep_new_tokens(shape, step, flat)
                with T.If(T.And(step.continues != 0, step.index[step.new.is_tree] != 0)):
                    with T.Then():
                        attend_new_trees(shape, args, step, flat)
                    with T.Else():
                        tiles = ChunkTiles(shape, args.q, step.q_indptr, step.batch, args.n, args.n)
                        tiles.attend(
                            args.scale,
                            flat,
                            lambda b: step.active[b] != 0,
                            bounds,
                            lambda b, head, p: step.keys(shape, b, head, p),
                            args.output,
                            args.lse,
                        )
            with T.Else():
                hide(args.lse, args.n, shape.heads)
    return kernel.function


def _keep_new_tokens(shape: AttentionShape, step: Step, flat: tirx.Buffer) -> None:
    """Write keys and values of all new tokens into their slots."""
    k, v = step.new.take(shape)

    def keep(i: tirx.Var) -> None:
        slot = T.bind(step.new.slots[i])
        with T.serial(shape.kv_heads) as head:
            store_token(shape, flat, slot // PAGE_SIZE, slot % PAGE_SIZE, head, k, v, i)

    parallel_for(step.n, SERIAL_TOKENS, keep)
    step.new.mark_taken()
