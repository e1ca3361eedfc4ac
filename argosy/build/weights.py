"""The weights step: convert the checkpoint's tensors into `tensor-cache.json` and its shards."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from argosy.build.recipe import BuildRecipe, tensor_bytes
from argosy.build.steps import BuildStep
from argosy.dist.fingerprint import weights_key
from argosy.support.files import require_space

if TYPE_CHECKING:
    from argosy.build.request import BuildRequest
    from argosy.dist.build_directory import BuildDirectory
    from argosy.support.progress import Progress


def _key(recipe: BuildRecipe) -> str:
    """Return the key of the weights; of the spec it covers the parameters only."""
    return weights_key(
        checkpoint_digest=recipe.digest,
        scheme=recipe.scheme.name,
        rounding=recipe.rounding,
        spec_digest=hashlib.sha256(repr(recipe.parameters).encode()).hexdigest(),
    )


def _write(recipe: BuildRecipe, directory: BuildDirectory, key: str, request: BuildRequest, progress: Progress) -> None:
    from argosy.quant.convert import convert, expected_tensors

    tensors = expected_tensors(recipe.parameters, recipe.plan)
    require_space(directory.directory, sum(tensor_bytes(shape, dtype) for _, shape, dtype in tensors))
    with directory.weights_writer() as writer:
        convert(
            recipe.parameters, recipe.plan, recipe.checkpoint, recipe.rounding, writer.add, progress,
            ignorable=recipe.ignorable,
        )  # fmt: skip
        directory.publish_weights(writer, key=key, rounding=recipe.rounding)


WEIGHTS = BuildStep("weights", _key, _write, lambda manifest: manifest.weights)
