"""`argosy config`: write the tokenizer and `mlc-chat-config.json` of an artefact."""

from __future__ import annotations

from typing import Any

from argosy.cli import stages
from argosy.cli.base import command as argosy_command


@argosy_command(
    "config",
    examples=[
        "argosy config --model smollm2-135m --quantization q4f16_1",
        "argosy config --model smollm2-135m --quantization q4f16_1 --context-window 2048",
    ],
)
@stages.options("model", "quantization", "context_window", "prefill_chunk", "max_batch", "output", "force", "as_json")
def command(as_json: bool, **choices: Any) -> None:
    """Write the chat config and the tokenizer: the second part of `argosy build`."""
    stages.run(("config",), as_json, **choices)
