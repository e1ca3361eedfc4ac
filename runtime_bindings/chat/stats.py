"""Describe how an answer went: speed, memory, and the library that computed it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from argosy.runtime_bindings.engine.memory import MemoryUse
from argosy.runtime_bindings.engine.request import RequestStats
from argosy.support.text import human_size


@dataclass(frozen=True, slots=True)
class ChatStats:
    """Figures of the last answer, of the model and of this process, in bytes, seconds and tokens."""

    answer: RequestStats
    memory: MemoryUse
    weight_bytes: int
    kv_bytes: int
    context_tokens: int
    context_window: int
    load_seconds: float
    threads: int
    library: str  # the file name of the library in use
    target: str  # the target that it was compiled for
    activations: str  # the dtype that weight matrices are multiplied with: "int8" or "f32"
    kv_dtype: str  # the dtype of the KV cache: "float16" or "float32"

    def __str__(self) -> str:
        answer, memory = self.answer, self.memory
        parts = [
            f"prefill: {answer.prefill_rate:.1f} tok/s ({answer.prefill_tokens} tokens, {answer.reused_tokens} reused)",
            f"decode: {answer.decode_rate:.1f} tok/s ({answer.decode_tokens} tokens)",
            f"time to first token: {answer.first_token_seconds:.2f} s",
            f"context: {self.context_tokens} of {self.context_window} tokens",
            f"library: {self.target} ({self.activations} activations, {self.kv_dtype} keys and values), "
            f"{self.threads} thread{'' if self.threads == 1 else 's'}",
            f"memory: {human_size(memory.resident)}, at most {human_size(memory.peak)} "
            f"(weights {human_size(self.weight_bytes)}, KV cache {human_size(self.kv_bytes)})",
        ]
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        """Return all figures, with the two rates, as plain values."""
        values = asdict(self)
        values["answer"] |= {"prefill_rate": self.answer.prefill_rate, "decode_rate": self.answer.decode_rate}
        return values
