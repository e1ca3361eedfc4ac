"""Export functions that sample on the device, under the names and with the arguments that MLC's runtimes look up."""

from __future__ import annotations

import tvm
from tvm import relax, tirx

from argosy.compiler.kernels.gpu.sampling import logits
from argosy.compiler.kernels.gpu.sampling.softmax import softmax_chunks, softmax_partials, softmax_probabilities
from argosy.compiler.kernels.gpu.sampling.sort import sort_descending
from argosy.compiler.kernels.gpu.sampling.top_p import sample_top_p
from argosy.compiler.kernels.gpu.traits import GpuTraits


def with_sampling(mod: tvm.IRModule, vocab: int, traits: GpuTraits) -> tvm.IRModule:
    """Add softmax_with_temperature, argsort_probs, sample_with_top_p, and functions that change logits in place."""
    builder = relax.BlockBuilder(mod)

    def size(name: str) -> tirx.Var:
        return tirx.Var(name, "int64")

    def tensor(name: str, shape: list[tirx.Var | int], dtype: str = "float32") -> relax.Var:
        return relax.Var(name, relax.TensorType(shape, dtype))

    def kernel(function: tirx.PrimFunc) -> relax.GlobalVar:
        return builder.add_func(function, str(function.attrs["global_symbol"]))

    def changed(name: str, function: tirx.PrimFunc, params: list[relax.Var]) -> None:
        """Add a function that changes its first parameter by `function`, and returns it."""
        with builder.function(name, params):
            call = relax.op.call_tir_inplace(kernel(function), params, [0], params[0].ty)
            builder.emit_func_output(builder.emit(call))

    b = size("b")
    x, temperature = tensor("logits", [b, 1, vocab]), tensor("temperature", [b])
    with builder.function("softmax_with_temperature", [x, temperature]):
        partial = relax.TensorType([b, softmax_chunks(traits, vocab), 2], "float32")
        partials = builder.emit(relax.call_tir(kernel(softmax_partials(traits, vocab)), [x, temperature], partial))
        probabilities = kernel(softmax_probabilities(traits, vocab))
        builder.emit_func_output(builder.emit(relax.call_tir(probabilities, [x, temperature, partials], x.ty)))

    b = size("b")
    probs = tensor("probs", [b, vocab])
    with builder.function("argsort_probs", [probs]):
        types = [relax.TensorType([b, vocab], dtype) for dtype in ("float32", "int32")]
        ordered = builder.emit(relax.call_tir(kernel(sort_descending(traits, vocab)), [probs], types))
        builder.emit_func_output(ordered)

    b, n = size("b"), size("n")
    params = [
        tensor("sorted_probs", [b, vocab]), tensor("sorted_ids", [b, vocab], "int32"), tensor("uniform", [n]),
        tensor("rows", [n], "int32"), tensor("top_p", [b]),
    ]  # fmt: skip
    with builder.function("sample_with_top_p", params):
        sampled = relax.call_tir(kernel(sample_top_p(traits, vocab)), params, relax.TensorType([n], "int32"))
        builder.emit_func_output(builder.emit(sampled))

    b, n = size("b"), size("n")
    rows = [tensor("logits", [b, vocab]), tensor("rows", [n], "int32"), tensor("tokens", [n], "int32")]
    changed("apply_logit_bias_inplace", logits.logit_bias(traits, vocab), [*rows, tensor("bias", [n])])
    b, s, n = size("b"), size("s"), size("n")
    params = [
        tensor("logits", [b, vocab]), tensor("sequences", [s], "int32"), tensor("owners", [n], "int32"),
        tensor("tokens", [n], "int32"), tensor("counts", [n], "int32"), tensor("penalties", [s, 3]),
    ]  # fmt: skip
    changed("apply_penalty_inplace", logits.penalties(traits, vocab), params)
    b, s = size("b"), size("s")
    words = (vocab + 31) // 32
    params = [tensor("logits", [b, vocab]), tensor("sequences", [s], "int32"), tensor("mask", [s, words], "int32")]
    changed("apply_bitmask_inplace", logits.bitmask(traits, vocab), params)
    return builder.finalize()
