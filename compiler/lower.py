"""Lowering: a spec, the storage formats and the bounds go in, an IRModule with every exported function comes out.

The functions are the decoder's entry points, `create_paged_kv_cache` (also as `create_tir_paged_kv_cache`, which other
runtimes of this ecosystem look up), and `_metadata`. Sizes that callers choose (n tokens, b sequences) stay symbolic.
"""

from __future__ import annotations

from collections.abc import Mapping

import tvm
from tvm import relax, tirx

from argosy.compiler.bounds import Bounds
from argosy.compiler.kernels.attention.cache import CpuPagedKVCache
from argosy.compiler.targets.record import TargetRecord
from argosy.model_defs.decoder import ENTRY_POINTS, Decoder
from argosy.model_defs.spec import DecoderSpec
from argosy.quant.scheme import Format

CACHE_ALIAS = "create_tir_paged_kv_cache"  # the name that other runtimes look up
_CACHE_SIZES = ("max_batch_size", "max_total_seq_len", "prefill_chunk_size", "page_size", "support_sliding_window")


def lower(
    spec: DecoderSpec, formats: Mapping[str, Format], plain: Format, target: TargetRecord, bounds: Bounds
) -> tuple[tvm.IRModule, list[tuple[str, tuple[int, ...], str]]]:
    """The module of a model, and (name, shape, dtype) of its parameters in the order in which they are packed."""
    decoder = Decoder(spec, formats, plain, target.activation_dtype, target.kv_dtype)
    mod, parameters = decoder.export()
    mod = _with_bounds(mod, bounds)
    with target.tvm_target:
        mod = _with_cache(mod, spec, target)
    packed = [(name, tuple(int(extent) for extent in p.shape), str(p.dtype)) for name, p in parameters]
    return mod, packed


def with_metadata(mod: tvm.IRModule, text: str) -> tvm.IRModule:
    """`mod` with a function `_metadata() -> str`."""
    builder = relax.BlockBuilder(mod)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(text))
    return builder.finalize()


def _with_bounds(mod: tvm.IRModule, bounds: Bounds) -> tvm.IRModule:
    """Upper bounds on the symbolic sizes, with which memory is planned statically."""
    limits = {"n": bounds.prefill_chunk, "b": bounds.max_batch}
    out = mod.clone()
    for name, function in mod.functions_items():
        if isinstance(function, relax.Function) and name.name_hint in ENTRY_POINTS:
            out.update_func(name, function.with_attr("tir_var_upper_bound", limits))
    return out


def _with_cache(mod: tvm.IRModule, spec: DecoderSpec, target: TargetRecord) -> tvm.IRModule:
    """Adds the functions that create a KV cache. Each size comes as a shape of one element, as other runtimes do."""
    builder = relax.BlockBuilder(mod)
    params, sizes = _cache_sizes()
    with builder.function("create_paged_kv_cache", params=params):
        cache = CpuPagedKVCache.create(spec, *sizes, dtype=target.kv_dtype, target=target.tvm_target)
        create = builder.emit_func_output(builder.emit(cache._expr))
    params, _ = _cache_sizes()
    with builder.function(CACHE_ALIAS, params=params):
        builder.emit_func_output(builder.emit(relax.Call(create, params)))
    return builder.finalize()


def _cache_sizes() -> tuple[list[relax.Var], list[tirx.Var]]:
    """Fresh parameters for a function that creates a cache, and the symbolic size that each of them holds."""
    sizes = [tirx.Var(name, "int64") for name in _CACHE_SIZES]
    shapes = [relax.ShapeType([size]) for size in sizes]
    return [relax.Var(f"{name}_", shape) for name, shape in zip(_CACHE_SIZES, shapes, strict=True)], sizes
