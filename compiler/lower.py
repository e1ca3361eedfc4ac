"""Lower a network to an IRModule with every function that the library exports.

They are the network's entry points, `create_paged_kv_cache` (also as `create_tir_paged_kv_cache`, which other
runtimes of this ecosystem look up), `_metadata`, and for some targets functions that sample. Sizes that
callers choose (n tokens, b sequences) stay symbolic.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import tvm
from tvm import relax, tirx

from argosy.compiler.bounds import Bounds
from argosy.compiler.cache import SIZES, ArgosyPagedKVCache
from argosy.compiler.sampling import with_sampling
from argosy.compiler.targets.record import TargetRecord
from argosy.model_defs.components.modules import Storage
from argosy.model_defs.networks.modules import build_module
from argosy.model_defs.networks.network import Network
from argosy.quant.scheme import WIDER, Format
from argosy.support.layout import TensorInfo

CACHE_ALIAS = "create_tir_paged_kv_cache"  # the name that other runtimes look up
_BY_PREFILL = ("decode", "batch_decode")  # entry points that others can compute


def lower(
    network: Network, formats: Mapping[str, Format], plain: Format, target: TargetRecord, bounds: Bounds
) -> tuple[tvm.IRModule, list[TensorInfo]]:
    """Return the module of a network, and its parameters in the order in which they are packed."""
    if target.widens:
        formats, plain = {name: WIDER.get(fmt.name, fmt) for name, fmt in formats.items()}, WIDER.get(plain.name, plain)
    left_out = _BY_PREFILL if target.one_graph else ()
    names = [name for name in network.entry_points if name not in left_out]
    storage = Storage(formats, plain, target.activation_dtype, target.kv_dtype)
    mod, parameters = build_module(network, storage).export(names)
    mod = _with_bounds(mod, names, bounds)
    with target.tvm_target:
        mod = _STATES[network.state_kind](mod, network, target)
    if target.one_graph:
        mod = _with_decoding(mod)
    if target.samples:
        assert target.gpu is not None, target.name
        mod = with_sampling(mod, network.vocab_size, target.gpu)
    packed = [(name, tuple(int(extent) for extent in p.shape), str(p.dtype)) for name, p in parameters]
    return mod, packed


def with_metadata(mod: tvm.IRModule, text: str) -> tvm.IRModule:
    """Return `mod` with a function `_metadata() -> str`."""
    builder = relax.BlockBuilder(mod)
    with builder.function("_metadata", params=[]):
        builder.emit_func_output(tvm.ir.StringImm(text))
    return builder.finalize()


def _with_bounds(mod: tvm.IRModule, names: Collection[str], bounds: Bounds) -> tvm.IRModule:
    """Bound the symbolic sizes of the functions `names` from above, so that memory can be planned statically."""
    limits = {"n": bounds.prefill_chunk, "b": bounds.max_batch}
    out = mod.clone()
    for name, function in mod.functions_items():
        if isinstance(function, relax.Function) and name.name_hint in names:
            out.update_func(name, function.with_attr("tir_var_upper_bound", limits))
    return out


def _with_decoding(mod: tvm.IRModule) -> tvm.IRModule:
    """Add `decode`, a prefill of one token, and `batch_decode`, which verifies one token of each sequence."""
    builder = relax.BlockBuilder(mod)
    prefill, verify = mod["prefill"], mod["batch_verify"]
    hidden, dtype = prefill.params[0].ty.shape[2], prefill.params[0].ty.dtype

    def params(shape: list[tirx.Expr | int], like: relax.Function) -> list[relax.Var]:
        rest = [relax.Var(param.name, param.ty) for param in like.params[1:]]
        return [relax.Var("x", relax.TensorType(shape, dtype)), *rest]

    arguments = params([1, 1, hidden], prefill)
    with builder.function("decode", arguments):
        builder.emit_func_output(builder.emit(relax.Call(mod.get_global_var("prefill"), arguments)))
    b = tirx.Var("b", "int64")
    arguments = params([b, 1, hidden], verify)
    with builder.function("batch_decode", arguments):
        tokens = builder.emit(relax.op.reshape(arguments[0], [1, b, hidden]))
        result = builder.emit(relax.Call(mod.get_global_var("batch_verify"), [tokens, *arguments[1:]]))
        logits = builder.emit(relax.TupleGetItem(result, 0))
        logits = builder.emit(relax.op.reshape(logits, [b, 1, logits.ty.shape[2]]))
        builder.emit_func_output(relax.Tuple([logits, builder.emit(relax.TupleGetItem(result, 1))]))
    return builder.finalize()


def _with_kv_cache(mod: tvm.IRModule, network: Network, target: TargetRecord) -> tvm.IRModule:
    """Add the functions that create a KV cache.

    They take each size as a shape of one element, which is how other runtimes call them.
    """
    builder = relax.BlockBuilder(mod)
    params, sizes = _cache_sizes()
    with builder.function("create_paged_kv_cache", params=params):
        cache = ArgosyPagedKVCache.create(
            network.attention, sizes, dtype=target.kv_dtype, target=target.tvm_target, kernels=target.cache
        )
        create = builder.emit_func_output(builder.emit(cache._expr))
    params, _ = _cache_sizes()
    with builder.function(CACHE_ALIAS, params=params):
        builder.emit_func_output(builder.emit(relax.Call(create, params)))
    return builder.finalize()


def _cache_sizes() -> tuple[list[relax.Var], list[tirx.Var]]:
    """Return fresh parameters for a function that creates a cache, and the symbolic sizes in them."""
    sizes = [tirx.Var(name, "int64") for name in SIZES]
    shapes = [relax.ShapeType([size]) for size in sizes]
    return [relax.Var(f"{name}_", shape) for name, shape in zip(SIZES, shapes, strict=True)], sizes


# How to create the state that a network's layers keep.
_STATES: dict[str, Callable[[tvm.IRModule, Network, TargetRecord], tvm.IRModule]] = {"kv_cache": _with_kv_cache}
