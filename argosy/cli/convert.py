"""`argosy convert`: convert the weights of an artefact."""

from __future__ import annotations

from typing import Any

from argosy.cli import stages
from argosy.cli.base import command as argosy_command


@argosy_command(
    "convert",
    examples=[
        "argosy convert --model smollm2-135m --quantization q4f16_1",
        "argosy convert --model ./Llama-3.2-1B --quantization q3f16_1 --rounding rtn",
    ],
)
@stages.options("model", "quantization", "rounding", "output", "force", "as_json")
def command(as_json: bool, **choices: Any) -> None:
    """Convert a model's weights: the first part of `argosy build`."""
    stages.run(("weights",), as_json, **choices)
