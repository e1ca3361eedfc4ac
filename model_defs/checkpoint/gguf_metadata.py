"""Read the metadata of one architecture in a GGUF file, with types checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from argosy.model_defs.checkpoint.gguf_file import MetadataValue
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

LIMIT = 1 << 31
FLOAT_LIMIT = float(np.finfo(np.float32).max)
# Keys that do not affect the logits, or repeat what the tensors show.
SILENT = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned", "pooling_type", "decoder_start_token_id")
NULL_TOKEN = (-1, (1 << 32) - 1, (1 << 64) - 1)  # llama.cpp's "no token", as signed and unsigned numbers
# Features that a model of any architecture may mention without having them, beside those that are off at zero.
ONE_IS_OFF = ("logit_scale", "residual_scale", "embedding_scale", "expert_weights_scale", "rope.scaling.attn_factor",
              "rope.scaling.alpha")  # fmt: skip
ZERO_IS_OFF = (
    *ONE_IS_OFF, "leading_dense_block_count", "nextn_predict_layers", "n_deepstack_layers", "interleave_moe_layer_step",
    "expert_feed_forward_length", "expert_shared_feed_forward_length", "expert_shared_count", "expert_group_count",
    "expert_group_used_count", "expert_gating_func", "expert_weights_norm", "experts_per_group", "moe_every_n_layers",
    "attn_logit_softcapping", "final_logit_softcapping", "router_logit_softcapping", "attention.max_alibi_bias",
    "attention.clamp_kqv", "attention.q_lora_rank", "attention.kv_lora_rank", "attention.sliding_window",
    "attention.scale", "attention.output_scale", "attention.temperature_length", "attention.temperature_scale",
    "attention.shared_kv_layers", "attention.key_length_mla", "attention.value_length_mla", "rope.scaling.factor",
    "rope.scale_linear", "rope.scaling.yarn_log_multiplier", "rope.scaling.original_context_length", "swin_norm",
    "rescale_every_n_layers", "token_shift_count", "activation_sparsity_scale", "embedding_length_per_layer_input",
    "full_attention_interval",
)  # fmt: skip


class Metadata:
    """Typed access to the metadata of one architecture; remembers which keys were read."""

    def __init__(self, values: Mapping[str, MetadataValue], architecture: str) -> None:
        self.values = values
        self.architecture = architecture
        self._read = {f"{architecture}.{key}" for key in SILENT}

    def get(self, key: str) -> MetadataValue | None:
        """Return the value at `<architecture>.key`, or None."""
        self._read.add(f"{self.architecture}.{key}")
        return self.values.get(f"{self.architecture}.{key}")

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the positive integer at `key`, which may be an array with the same value for every layer."""
        value = self.get(key)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu" and (value == value[0]).all():
            value = int(value[0])
        if value is None and default is not None:
            return default
        if value is None:
            raise CheckpointError(f"the GGUF file lacks `{self.architecture}.{key}`", "convert it again with llama.cpp")
        if isinstance(value, np.ndarray):
            raise UnsupportedModelError(
                f"`{self.architecture}.{key}` differs from layer to layer", "that is not supported"
            )
        if type(value) is not int or not 0 < value < LIMIT:
            raise self._wrong(key, value, "a whole number above zero")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return the finite number at `key`."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise CheckpointError(f"the GGUF file lacks `{self.architecture}.{key}`", "convert it again with llama.cpp")
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= FLOAT_LIMIT:
            raise self._wrong(key, value, "a finite number")
        # GGUF rounds to 32 bits: 1e-5 reads back as 9.99999974e-06. Recover the shortest decimal that rounds to it.
        return float(str(np.float32(value)))

    def is_off(self, key: str) -> bool:
        """Return whether the feature at `key` is absent, or has the value that llama.cpp takes for its absence."""
        value = self.get(key)
        return value is None or _is_off(key, value)

    def flag(self, key: str, default: bool) -> bool:
        """Return the boolean at `key`."""
        value = self.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self._wrong(key, value, "true or false")
        return value

    def only(self, key: str, allowed: object) -> None:
        """Refuse any value at `key` but `allowed`."""
        value = self.get(key)
        if value is not None and not (np.isscalar(value) and value == allowed):
            raise UnsupportedModelError(
                f"`{self.architecture}.{key}` is `{one_line(value)}`, only `{allowed}` is supported",
                "use another model",
            )

    def refuse_rest(self) -> None:
        """Refuse keys of the architecture that were not read, unless they say that the model lacks a feature."""
        for key, value in self.values.items():
            own = key.removeprefix(f"{self.architecture}.")
            if own != key and key not in self._read and not _is_off(own, value):
                raise UnsupportedModelError(
                    f"the GGUF file asks for `{one_line(key)}`, which is not supported", "use another model"
                )

    def _wrong(self, key: str, value: object, wanted: str) -> CheckpointError:
        return CheckpointError(
            f"`{self.architecture}.{key}` is `{one_line(value)}`, which is not {wanted}", "the file is damaged"
        )


def _is_off(key: str, value: MetadataValue) -> bool:
    """Return whether `value` at `key` turns the feature off; an array must do so for every layer."""
    if key not in ZERO_IS_OFF or isinstance(value, str | list):
        return False
    if isinstance(value, np.ndarray):
        return bool(value.size) and all(_is_off(key, item) for item in value.tolist())
    return value == 0 or (key in ONE_IS_OFF and value == 1)


def is_no_token(value: object) -> bool:
    """Return whether the id of a token is one of those that stand for none."""
    return type(value) is int and value in NULL_TOKEN
