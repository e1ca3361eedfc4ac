"""Sampling on the device: an IRModule and a vocabulary go in, the module with functions that sample comes out.

Names and arguments are those that MLC's runtimes look up; kernels/gpu/sampling.py and logits.py say what they compute.
"""

from __future__ import annotations

import tvm
from tvm import relax, tirx

from argosy.compiler.kernels.gpu import logits, sampling


def with_sampling(mod: tvm.IRModule, vocab: int) -> tvm.IRModule:
    """`mod` with softmax_with_temperature, argsort_probs, sample_with_top_p, and what changes logits in place."""
    builder = relax.BlockBuilder(mod)

    def size(name: str) -> tirx.Var:
        return tirx.Var(name, "int64")

    def tensor(name: str, shape: list[tirx.Var | int], dtype: str = "float32") -> relax.Var:
        return relax.Var(name, relax.TensorType(shape, dtype))

    def kernel(function: tirx.PrimFunc) -> relax.GlobalVar:
        return builder.add_func(function, str(function.attrs["global_symbol"]))

    def changed(name: str, function: tirx.PrimFunc, params: list[relax.Var]) -> None:
        """A function that changes its first parameter by `function`, and returns it."""
        with builder.function(name, params):
            call = relax.op.call_tir_inplace(kernel(function), params, [0], params[0].ty)
            builder.emit_func_output(builder.emit(call))

    b = size("b")
    x, temperature = tensor("logits", [b, 1, vocab]), tensor("temperature", [b])
    with builder.function("softmax_with_temperature", [x, temperature]):
        partial = relax.TensorType([b, sampling.softmax_chunks(vocab), 2], "float32")
        partials = builder.emit(relax.call_tir(kernel(sampling.softmax_partials(vocab)), [x, temperature], partial))
        probabilities = kernel(sampling.softmax_probabilities(vocab))
        builder.emit_func_output(builder.emit(relax.call_tir(probabilities, [x, temperature, partials], x.ty)))

    b = size("b")
    probs = tensor("probs", [b, vocab])
    with builder.function("argsort_probs", [probs]):
        types = [relax.TensorType([b, vocab], dtype) for dtype in ("float32", "int32")]
        ordered = builder.emit(relax.call_tir(kernel(sampling.sort_descending(vocab)), [probs], types))
        builder.emit_func_output(ordered)

    b, n = size("b"), size("n")
    params = [
        tensor("sorted_probs", [b, vocab]), tensor("sorted_ids", [b, vocab], "int32"), tensor("uniform", [n]),
        tensor("rows", [n], "int32"), tensor("top_p", [b]),
    ]  # fmt: skip
    with builder.function("sample_with_top_p", params):
        sampled = relax.call_tir(kernel(sampling.sample_top_p(vocab)), params, relax.TensorType([n], "int32"))
        builder.emit_func_output(builder.emit(sampled))

    b, n = size("b"), size("n")
    rows = [tensor("logits", [b, vocab]), tensor("rows", [n], "int32"), tensor("tokens", [n], "int32")]
    changed("apply_logit_bias_inplace", logits.logit_bias(vocab), [*rows, tensor("bias", [n])])
    b, s, n = size("b"), size("s"), size("n")
    params = [
        tensor("logits", [b, vocab]), tensor("sequences", [s], "int32"), tensor("owners", [n], "int32"),
        tensor("tokens", [n], "int32"), tensor("counts", [n], "int32"), tensor("penalties", [s, 3]),
    ]  # fmt: skip
    changed("apply_penalty_inplace", logits.penalties(vocab), params)
    b, s = size("b"), size("s")
    words = (vocab + 31) // 32
    params = [tensor("logits", [b, vocab]), tensor("sequences", [s], "int32"), tensor("mask", [s, words], "int32")]
    changed("apply_bitmask_inplace", logits.bitmask(vocab), params)
    return builder.finalize()
