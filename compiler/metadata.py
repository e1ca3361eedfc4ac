"""What a library says about itself: what it is made from goes in, the content of `_metadata()` comes out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tvm

from argosy.compiler.bounds import Bounds
from argosy.compiler.kernels.kv.shape import PAGE_SIZE
from argosy.compiler.targets.record import TargetRecord
from argosy.model_defs.spec import DecoderSpec
from argosy.support.layout import weights_layout

PackedParameter = tuple[str, tuple[int, ...], str]  # name, shape, dtype


def parameter_table(parameters: Sequence[PackedParameter]) -> list[dict[str, object]]:
    """The parameters as JSON objects, in packing order."""
    return [{"name": name, "shape": list(shape), "dtype": dtype} for name, shape, dtype in parameters]


def kv_bytes_per_token(spec: DecoderSpec, target: TargetRecord) -> int:
    """Bytes that one token takes in the KV cache, over all layers."""
    size = {"float32": 4, "float16": 2}[target.kv_dtype]
    return 2 * len(spec.layers) * spec.attention.kv_heads * spec.attention.head_dim * size


def largest_tensor(parameters: Sequence[PackedParameter]) -> int:
    """Bytes of the largest parameter."""
    return max(math.prod(shape) * tvm.DataType(dtype).itemsize for _, shape, dtype in parameters)


def describe(
    spec: DecoderSpec,
    parameters: Sequence[PackedParameter],
    target: TargetRecord,
    bounds: Bounds,
    quantization: str,
    argosy_version: str,
    abi: int,
) -> dict[str, object]:
    """The content of `_metadata()`."""
    return {
        "abi": abi,
        "argosy_version": argosy_version,
        "tvm_version": tvm.__version__,
        "model_type": spec.model_type,
        "quantization": quantization,
        "target": target.describe(),
        "activations": target.activations,
        "context_window_size": bounds.context_window,
        "prefill_chunk_size": bounds.prefill_chunk,
        "max_batch_size": bounds.max_batch,
        "page_size": PAGE_SIZE,
        "sliding_window_size": spec.window if spec.window is not None else -1,
        "attention_sink_size": -1,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_layers": len(spec.layers),
        "kv_state_kind": "kv_cache",
        "kv_dtype": target.kv_dtype,
        "kv_bytes_per_token": kv_bytes_per_token(spec, target),
        "params": parameter_table(parameters),
        "largest_tensor": largest_tensor(parameters),
        "weights_layout": weights_layout(parameters),
        "spec_digest": spec.digest(),
    }
