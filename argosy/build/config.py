"""The config step: write the tokenizer's files and `mlc-chat-config.json`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from argosy.build.recipe import BuildRecipe
from argosy.build.steps import BuildStep
from argosy.dist.fingerprint import config_key

if TYPE_CHECKING:
    from argosy.build.request import BuildRequest
    from argosy.dist.build_directory import BuildDirectory
    from argosy.support.progress import Progress


def _key(recipe: BuildRecipe) -> str:
    return config_key(
        checkpoint_digest=recipe.digest,
        scheme=recipe.scheme.name,
        bounds=dataclasses.asdict(recipe.bounds),
        preset=recipe.preset,
    )


def _write(recipe: BuildRecipe, directory: BuildDirectory, key: str, request: BuildRequest, progress: Progress) -> None:
    from argosy.dist.chat_config import make_chat_config
    from argosy.mlc_template import conv_template
    from argosy.turn_end import ends_of_answers

    progress.report("writing config", 0, 1)
    files = recipe.tokenizer_files
    config = make_chat_config(
        model_type=recipe.spec.model_type, quantization=recipe.scheme.name, model_config=recipe.config,
        vocab_size=recipe.spec.vocab_size, context_window_size=recipe.bounds.context_window,
        prefill_chunk_size=recipe.bounds.prefill_chunk, max_batch_size=recipe.bounds.max_batch,
        tokenizer_files=files, preset=recipe.preset,
    )  # fmt: skip
    ends = ends_of_answers(config.eos_token_ids, files)
    template = conv_template(recipe.spec.model_type, files, ends)
    config = dataclasses.replace(config, eos_token_ids=ends, conv_template=template)
    directory.publish_config(config, files, key=key)
    progress.report("writing config", 1, 1)


CONFIG = BuildStep("config", _key, _write, lambda manifest: manifest.config)
