"""`argosy build`: build an artefact that `argosy chat` and the other runtimes load."""

from __future__ import annotations

from typing import Any

from argosy.cli import stages
from argosy.cli.base import command as argosy_command


@argosy_command(
    "build",
    examples=[
        "argosy build --model smollm2-135m --target cpu --quantization q4f16_1",
        "argosy build --model ./Qwen3-0.6B --quantization q8f16_1 --context-window 4096",
        "argosy build --model model.Q4_1.gguf --quantization keep --output dist/mine",
    ],
)
@stages.options(
    "model", "target", "quantization", "rounding", "context_window", "prefill_chunk", "max_batch", "activations", "kv",
    "output", "sign", "force", "debug_dump", "as_json",
)  # fmt: skip
def command(as_json: bool, **choices: Any) -> None:
    """Convert a model's weights, write its config and compile its library, skipping what is up to date."""
    stages.run(("weights", "config", "library"), as_json, **choices)
