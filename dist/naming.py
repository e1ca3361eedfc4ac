"""Name artefact directories, libraries, and the commands that build them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from argosy.support import env
from argosy.support.errors import UsageError


def output_root() -> Path:
    """Return the directory of artefacts: ARGOSY_DIST, else `dist/out` in a checkout of Argosy, else `dist`."""
    chosen = env.DIST.get()
    if chosen is not None:
        return chosen
    return Path("dist/out") if Path("dist/build_directory.py").is_file() else Path("dist")


def artefact_name(model: str, quantization: str) -> str:
    """Name the directory of a model (a name, an id or a path) in a scheme, such as `smollm2-135m-q4f16_1`.

    Raises UsageError if no character of the model's name is safe in a file name.
    """
    slug = model_slug(model)
    if not slug:
        hint = "name the directory with `--output DIR`, or rename the model in Latin letters"
        raise UsageError(f"no directory can be named after the model `{model}`", hint)
    return f"{slug}-{quantization}"


def library_name(model: str, quantization: str, target: str, suffix: str) -> str:
    """Name the library for a target, such as `smollm2-135m-q4f16_1-cpu.so`; the name is safe in a URL too."""
    return f"{model_slug(model) or 'model'}-{quantization}-{target}{suffix}"


def model_slug(model: str) -> str:
    """Return the last part of a name, an id or a path, reduced to characters safe in file names; it may be empty."""
    last = Path(model).name.removesuffix(".gguf")
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", last).strip("-.")[:80]


def build_command(model: str, target: str, quantization: str, directory: Path | None = None) -> str:
    """Return the `argosy build` command with these arguments, quoted for a shell.

    `--output` is left out if `directory` is the default one.
    """
    words = ["argosy", "build", "--model", model, "--target", target, "--quantization", quantization]
    if directory is not None and not _is_usual(directory, model, quantization):
        words += ["--output", str(directory)]
    return shlex.join(words)


def _is_usual(directory: Path, model: str, quantization: str) -> bool:
    """Return whether `directory` is where `argosy build` writes by default."""
    if not model_slug(model):
        return False
    return directory.resolve() == (output_root() / artefact_name(model, quantization)).resolve()
