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
    """`smollm2-135m-q4f16_1`: the directory of a model (a name, an id or a path) in one scheme."""
    return f"{model_slug(model)}-{quantization}"


def model_slug(model: str) -> str:
    """The last part of a name, an id or a path, in letters that are safe in file names."""
    last = Path(model).name.removesuffix(".gguf")
    slug = re.sub(r"[^A-Za-z0-9_.+]+", "-", last).strip("-.")[:80]
    if not slug:
        raise UsageError(f"no file name can be made of the model `{model}`", "name the directory with `--output DIR`")
    return slug


def build_command(model: str, target: str, quantization: str, directory: Path | None = None) -> str:
    """`argosy build` with these arguments, for a shell.

    `directory` is where the outcome shall lie; it is only named where the command would not take it by itself.
    """
    words = ["argosy", "build", "--model", model, "--target", target, "--quantization", quantization]
    if directory is not None and directory.resolve() != (output_root() / artefact_name(model, quantization)).resolve():
        words += ["--output", str(directory)]
    return shlex.join(words)
