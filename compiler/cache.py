"""Create the paged KV cache.

The bookkeeping (sequences, pages, forks, token trees) is TVM's; every kernel that touches keys and values is ours.
docs/notes/kv_cache.md says what the runtime does when, and what it gets wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax, tirx
from tvm.relax.frontend.nn.llm.kv_cache import AttnKind, PagedKVCache, RopeMode
from tvm.target.codegen import target_has_features

from argosy.compiler.kernels.kv.kernels import CacheKernels
from argosy.compiler.kernels.kv.shape import AttentionShape
from argosy.model_defs.components.attention import AttentionSpec
from argosy.support.errors import UnsupportedModelError

CREATE = "vm.builtin.paged_attention_kv_cache_create"
SIZES = ("max_batch_size", "max_total_seq_len", "prefill_chunk_size", "page_size", "support_sliding_window")


def attention_shape(layers: Sequence[AttentionSpec], dtype: str, target: tvm.target.Target) -> AttentionShape:
    """Return what the kernels are specialised for: the heads, which must be alike in all `layers`, and the window.

    Raises UnsupportedModelError if the layers differ in their heads, or the sliding ones in their windows: the runtime
    has one of each.
    """
    first = layers[0]
    if any(_heads(layer) != _heads(first) for layer in layers):
        counts = sorted({f"{a.heads}/{a.kv_heads} of {a.head_dim}" for a in layers})
        raise UnsupportedModelError(
            f"the attention layers differ in their heads: `{', '.join(counts)}`",
            "the KV cache has one number and size of heads, and one soft-cap",
        )
    windows = sorted({layer.window for layer in layers if layer.window is not None})
    if len(windows) > 1:
        raise UnsupportedModelError(
            f"the layers have attention windows of several sizes: `{windows}`", "the KV cache has one window size"
        )
    # A tile holds a 16-lane sum for each row: that many fit into 32 registers of 512 bits, or 16 of 256.
    rows = 12 if target.kind.name == "llvm" and target_has_features("avx512f", target) else 6
    window = windows[0] if windows else None
    return AttentionShape(first.heads, first.kv_heads, first.head_dim, dtype, first.softcap, window, rows)


def _heads(attention: AttentionSpec) -> tuple[int, int, int, float | None]:
    return attention.heads, attention.kv_heads, attention.head_dim, attention.softcap


class ArgosyPagedKVCache(PagedKVCache):
    """TVM's paged KV cache with our kernels.

    Keys are cached as the graph gives them (RopeMode.NONE): the model rotates q and k itself, by `get_query_positions`.
    """

    @classmethod
    def create(
        cls,
        layers: Sequence[AttentionSpec],
        sizes: Sequence[tirx.Var],
        *,
        dtype: str,
        target: tvm.target.Target,
        kernels: CacheKernels,
        name: str = "paged_kv_cache",
    ) -> ArgosyPagedKVCache:
        """Emit the creation of a cache for attention `layers` into the current block builder.

        `sizes` are those of `SIZES`; the library refuses a `page_size` but 16 and a `support_sliding_window` but 0.

        Layers with a window slide by themselves. `support_sliding_window` is the runtime's other mechanism, which drops
        old tokens of a whole sequence and renumbers the rest; it needs keys cached before rotation.
        """
        shape = attention_shape(layers, dtype, target)
        builder = relax.BlockBuilder.current()

        def kernel(function: tirx.PrimFunc) -> relax.GlobalVar:
            return builder.add_func(function, str(function.attrs["global_symbol"]))

        def attention(function: tirx.PrimFunc | None) -> relax.Tuple:
            return relax.Tuple([] if function is None else [tvm.ir.StringImm("tirx"), kernel(function)])

        sliding = shape.window is not None
        page_size, support_sliding_window = sizes[3:]
        empty = relax.call_tir(
            kernel(kernels.checked_empty(shape)),
            [relax.prim_value(page_size), relax.prim_value(support_sliding_window)],
            relax.TensorType((), dtype),
        )
        arguments = [
            relax.ShapeExpr([*sizes, shape.window or 1]),
            relax.ShapeExpr([0, len(layers)]),
            relax.prim_value(shape.heads),
            relax.prim_value(shape.kv_heads),
            relax.prim_value(shape.head_dim),
            relax.prim_value(shape.head_dim),
            relax.ShapeExpr(_attention_kinds(layers)),
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
            kernel(kernels.read_back(shape, len(layers))),
            kernel(kernels.compact(shape)),
        ]
        return cls(_expr=relax.call_pure_packed(CREATE, *arguments, ty_args=relax.AnyType()), _name=name)


def _attention_kinds(layers: Sequence[AttentionSpec]) -> list[int]:
    """Return the kind of each layer, and if all slide, one more that is MHA.

    The runtime allocates the buffers of the split projections only if some layer has that kind, but always needs them.
    """
    kinds = [AttnKind.MHA if layer.window is None else AttnKind.MHA_SLIDING for layer in layers]
    return [int(kind) for kind in (kinds if AttnKind.MHA in kinds else [*kinds, AttnKind.MHA])]
