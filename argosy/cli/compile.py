"""`argosy compile`: compile the libraries of an artefact."""

from __future__ import annotations

from typing import Any

from argosy.cli import stages
from argosy.cli.base import command as argosy_command


@argosy_command(
    "compile",
    examples=[
        "argosy compile --model smollm2-135m --target cpu --quantization q4f16_1",
        "argosy compile --model smollm2-135m --debug-dump dump && argosy inspect dump",
    ],
)
@stages.options(
    "model", "target", "quantization", "context_window", "prefill_chunk", "max_batch", "activations", "kv", "output",
    "force", "debug_dump", "as_json",
)  # fmt: skip
def command(as_json: bool, **choices: Any) -> None:
    """Compile a model's library: the last part of `argosy build`."""
    stages.run(("library",), as_json, **choices)
