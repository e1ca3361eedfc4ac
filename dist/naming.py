"""A model and a scheme go in; the directory that they are built into and the command that builds it come out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from argosy.support import env
from argosy.support.errors import UsageError


def output_root() -> Path:
    """Where artefacts go: ARGOSY_DIST, `dist/out` when the current directory is a checkout of Argosy, else `dist`."""
    chosen = env.DIST.get()
    if chosen is not None:
        return chosen
    return Path("dist/out") if Path("dist/build_directory.py").is_file() else Path("dist")


def artefact_name(model: str, quantization: str) -> str:
    """`smollm2-135m-q4f16_1`: the directory of a model (a name, an id or a path) in one scheme.

    Raises UsageError where nothing of the model's name can stand in one.
    """
    slug = model_slug(model)
    if not slug:
        hint = "name the directory with `--output DIR`, or rename the model in Latin letters"
        raise UsageError(f"no directory can be named after the model `{model}`", hint)
    return f"{slug}-{quantization}"


def library_name(model: str, quantization: str, target: str, suffix: str) -> str:
    """`smollm2-135m-q4f16_1-webgpu.wasm`: the library for a target, a name that is safe in an address too."""
    return f"{model_slug(model) or 'model'}-{quantization}-{target}{suffix}"


def model_slug(model: str) -> str:
    """The last part of a name, an id or a path, in letters that are safe in file names; empty where it has none."""
    last = Path(model).name.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", last).strip("-.")[:80]


def build_command(model: str, target: str, quantization: str, directory: Path | None = None) -> str:
    """`argosy build` with these arguments, for a shell.

    `directory` is where the outcome shall lie; it is only named where the command would not take it by itself.
    """
    words = ["argosy", "build", "--model", model, "--target", target, "--quantization", quantization]
    if directory is not None and not _is_usual(directory, model, quantization):
        words += ["--output", str(directory)]
    return shlex.join(words)


def _is_usual(directory: Path, model: str, quantization: str) -> bool:
    """Whether `argosy build` takes `directory` where none is named."""
    if not model_slug(model):
        return False
    return directory.resolve() == (output_root() / artefact_name(model, quantization)).resolve()
