"""The paged KV cache: a `DecoderSpec`, symbolic capacities and a device's kernels go in, a call that creates it comes
out.

The bookkeeping (sequences, pages, forks, token trees) is TVM's; every kernel that touches keys and values is ours.
docs/notes/kv_cache.md says what the runtime does when, and what it gets wrong.
"""

from __future__ import annotations

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode
from tvm.target.codegen import target_has_features

from argosy.compiler.kernels.kv.kernels import CacheKernels
from argosy.compiler.kernels.kv.shape import AttentionShape
from argosy.model_defs.spec import DecoderSpec
from argosy.support.errors import UnsupportedModelError

CREATE = "vm.builtin.paged_attention_kv_cache_create"


def attention_shape(spec: DecoderSpec, dtype: str, target: tvm.target.Target) -> AttentionShape:
    """What the kernels are specialised for.

    Raises UnsupportedModelError if the sliding layers have windows of several sizes: the runtime knows one.
    """
    windows = sorted({layer.window for layer in spec.layers if layer.window is not None})
    if len(windows) > 1:
        raise UnsupportedModelError(
            f"the layers have attention windows of several sizes: `{windows}`", "the KV cache has one window size"
        )
    a = spec.attention
    # A tile holds a 16-lane sum for each row: that many fit into 32 registers of 512 bits, or 16 of 256.
    rows = 12 if target.kind.name == "llvm" and target_has_features("avx512f", target) else 6
    return AttentionShape(a.heads, a.kv_heads, a.head_dim, dtype, a.softcap, spec.window, rows)


class ArgosyPagedKVCache(PagedKVCache):
    """TVM's paged KV cache with our kernels.

    Keys are cached as the graph gives them (RopeMode.NONE): the model rotates q and k itself, by `get_query_positions`.
    """

    @classmethod
    def create(
        cls,
        spec: DecoderSpec,
        max_batch_size: tirx.Var,
        max_total_seq_len: tirx.Var,
        prefill_chunk_size: tirx.Var,
        page_size: tirx.Var,
        support_sliding_window: tirx.Var,
        dtype: str,
        target: tvm.target.Target,
        kernels: CacheKernels,
        name: str = "paged_kv_cache",
    ) -> ArgosyPagedKVCache:
        """A cache of dtype `dtype` for the current block builder. `page_size` must be 16, `support_sliding_window` 0.

        Layers with a window slide by themselves. `support_sliding_window` would be the runtime's other mechanism, which
        drops old tokens of a whole sequence and renumbers the rest; it needs keys cached before rotation: refused.
        """
        shape = attention_shape(spec, dtype, target)
        builder = relax.BlockBuilder.current()

        def kernel(function: tirx.PrimFunc) -> relax.GlobalVar:
            return builder.add_func(function, str(function.attrs["global_symbol"]))

        def attention(function: tirx.PrimFunc | None) -> relax.Tuple:
            return relax.Tuple([] if function is None else [tvm.ir.StringImm("tirx"), kernel(function)])

        sliding = shape.window is not None
        capacities = [max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window]
        empty = relax.call_tir(
            kernel(kernels.checked_empty(shape)),
            [relax.prim_value(page_size), relax.prim_value(support_sliding_window)],
            relax.TensorType((), dtype),
        )
        arguments = [
            relax.ShapeExpr([*capacities, shape.window or 1]),
            relax.ShapeExpr([0, len(spec.layers)]),
            relax.prim_value(shape.heads),
            relax.prim_value(shape.kv_heads),
            relax.prim_value(shape.head_dim),
            relax.prim_value(shape.head_dim),
            relax.ShapeExpr(_attention_kinds(spec)),
            relax.prim_value(False),  # no transfer of pages between machines
            relax.prim_value(RopeMode.NONE),
            relax.prim_value(1),  # rope scale and theta are not used
            relax.prim_value(10000),
            relax.prim_value(0),  # no rope extension factors
            builder.emit(empty),
            kernel(kernels.append(shape)),
            relax.prim_value(0),  # no MLA
            attention(kernels.ragged(shape)),
            attention(kernels.prefill(shape, False)),
            attention(kernels.decode(shape, False)),
            attention(kernels.prefill(shape, True) if sliding else None),
            attention(kernels.decode(shape, True) if sliding else None),
            attention(kernels.tree(shape) if kernels.tree else None),
            attention(kernels.ragged_tree(shape) if kernels.ragged_tree else None),
            attention(None),  # no MLA
            relax.Tuple([kernel(kernels.merge_state(shape))]),
            kernel(kernels.split_qkv(shape)),
            kernel(kernels.copy_page(shape)),
            kernel(kernels.read_back(shape, len(spec.layers))),
            kernel(kernels.compact(shape)),
        ]
        return cls(_expr=relax.call_pure_packed(CREATE, *arguments, ty_args=relax.AnyType()), _name=name)


def _attention_kinds(spec: DecoderSpec) -> list[int]:
    """One kind for each layer; where all slide, one more that says MHA.

    The runtime allocates the buffers of the split projections only if some layer has that kind, and needs them always.
    """
    kinds = [AttnKind.MHA if layer.window is None else AttnKind.MHA_SLIDING for layer in spec.layers]
    return [int(kind) for kind in (kinds if AttnKind.MHA in kinds else [*kinds, AttnKind.MHA])]
