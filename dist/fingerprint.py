"""Compute the key of a build stage from all of its inputs; a stage whose recorded key still matches is skipped.

Keys cover our own sources too, package by package, so that a changed kernel recompiles the library but does not convert
the weights again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

from argosy.dist.manifest import Manifest, StageRecord, tvm_version
from argosy.support.files import sha256_file


def stage_key(stage: str, **parts: object) -> str:
    """Return the SHA-256 (hex) of the stage's name and its inputs, which must be JSON values."""
    text = json.dumps([stage, parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def weights_key(*, checkpoint_digest: str, scheme: str, rounding: str, spec_digest: str) -> str:
    """Return the key of converting weights."""
    converter = source_digest(
        "argosy.model_defs", "argosy.quant", "argosy.dist.tensor_cache", "argosy.support.bounded_file"
    )
    return stage_key(
        "weights", checkpoint=checkpoint_digest, scheme=scheme, rounding=rounding, spec=spec_digest, converter=converter
    )


def config_key(*, checkpoint_digest: str, scheme: str, bounds: dict[str, int], preset: Mapping[str, object]) -> str:
    """Return the key of the chat config and the tokenizer files; `bounds` are window, chunk and batch sizes."""
    writer = source_digest(
        "argosy.model_defs", "argosy.dist.chat_config", "argosy.dist.recommended", "argosy.dist.sampling",
        "argosy.dist.conv_template", "argosy.mlc_template", "argosy.turn_end",
        "argosy.runtime_bindings.chat",
    )  # fmt: skip
    return stage_key(
        "config", checkpoint=checkpoint_digest, scheme=scheme, bounds=bounds, preset=dict(preset), writer=writer
    )


def library_key(*, spec_digest: str, formats: dict[str, str], target: dict[str, object], bounds: dict[str, int]) -> str:
    """Return the key of compiling; `formats` maps parameters to formats, `target` is the resolved target."""
    compiler = source_digest("argosy.compiler", "argosy.model_defs", "argosy.quant")
    return stage_key(
        "library", spec=spec_digest, formats=formats, target=target, bounds=bounds, compiler=compiler, tvm=tvm_version()
    )


@functools.cache
def source_digest(*modules: str) -> str:
    """Return the SHA-256 (hex) of the sources of packages and modules; only their parents are imported."""
    digest = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None, module
        if spec.submodule_search_locations:
            folder = Path(next(iter(spec.submodule_search_locations)))
            files = [path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]
        else:
            assert spec.origin is not None, module
            folder, files = Path(spec.origin).parent, [Path(spec.origin)]
        for path in files:
            digest.update(f"{module}/{path.relative_to(folder).as_posix()}\0{sha256_file(path)}\0".encode())
    return digest.hexdigest()


def is_current(manifest: Manifest, directory: Path, stage: StageRecord | None, key: str) -> bool:
    """Return whether `stage` was made with `key`, and all its files in `directory` are unaltered."""
    if stage is None or stage.key != key:
        return False
    return all(manifest.file_problem(directory, name) is None for name in stage.files)
