"""Describe a library: the content of its `_metadata()`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tvm

from argosy.compiler.bounds import Bounds
from argosy.compiler.kernels.kv.shape import PAGE_SIZE
from argosy.compiler.targets.record import TargetRecord
from argosy.model_defs.networks.network import Network
from argosy.support.layout import TensorInfo, weights_layout


def parameter_table(parameters: Sequence[TensorInfo]) -> list[dict[str, object]]:
    """Return the parameters as JSON objects, in packing order."""
    return [{"name": name, "shape": list(shape), "dtype": dtype} for name, shape, dtype in parameters]


def kv_bytes_per_token(network: Network, target: TargetRecord) -> int:
    """Return the bytes that one token takes in the KV cache, over all layers."""
    size = {"float32": 4, "float16": 2}[target.kv_dtype]
    return sum(2 * attention.kv_heads * attention.head_dim * size for attention in network.attention)


def largest_tensor(parameters: Sequence[TensorInfo]) -> int:
    """Return the bytes of the largest parameter."""
    return max(math.prod(shape) * tvm.DataType(dtype).itemsize for _, shape, dtype in parameters)


def stored_parameters(parameters: Sequence[TensorInfo], target: TargetRecord) -> list[TensorInfo]:
    """Return `parameters` as the weights hold them."""
    if not target.widens:
        return list(parameters)
    return [(name, shape, "float16" if dtype == "float32" else dtype) for name, shape, dtype in parameters]


def describe(
    network: Network,
    parameters: Sequence[TensorInfo],
    target: TargetRecord,
    bounds: Bounds,
    quantization: str,
    argosy_version: str,
    abi: int,
) -> dict[str, object]:
    """Return the content of `_metadata()`."""
    return {
        "abi": abi,
        "argosy_version": argosy_version,
        "tvm_version": tvm.__version__,
        "model_type": network.model_type,
        "quantization": quantization,
        "target": target.describe(),
        "activations": target.activations,
        "context_window_size": bounds.context_window,
        "prefill_chunk_size": bounds.prefill_chunk,
        "max_batch_size": bounds.max_batch,
        "page_size": PAGE_SIZE,
        "sliding_window_size": network.window if network.window is not None else -1,
        "attention_sink_size": -1,
        "vocab_size": network.vocab_size,
        "hidden_size": network.hidden_size,
        "num_layers": network.num_layers,
        "kv_state_kind": network.state_kind,
        "kv_dtype": target.kv_dtype,
        "kv_bytes_per_token": kv_bytes_per_token(network, target),
        "params": parameter_table(parameters),
        "largest_tensor": largest_tensor(parameters),
        "weights_layout": weights_layout(stored_parameters(parameters, target)),
        "spec_digest": network.digest(),
    }
