"""Name artefact directories, libraries, and the commands that build them."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from argosy.support import env
from argosy.support.errors import UsageError
from argosy.support.text import one_line
from argosy.support.user_files import data_directory


def output_root() -> Path:
    """Return the directory that artefacts are built into.

    It is ARGOSY_DIST, else `models` in ARGOSY_HOME, else `dist/out` in a checkout of Argosy around the current
    directory, else `models` in the user's data directory.
    """
    chosen = env.DIST.get()
    if chosen is not None:
        return chosen
    checkout = None if env.HOME.get() is not None else checkout_root()
    return store_root() if checkout is None else checkout / "dist" / "out"


def artefact_roots() -> list[Path]:
    """List the directories in which artefacts are found by name, in order; some may not exist.

    With ARGOSY_DIST it is that one alone. Else they are the one that artefacts are built into, the two that lie in the
    current directory, the user's store, and that of the checkout which this package runs from.
    """
    roots = [output_root()]
    if env.DIST.get() is None:
        own = Path(__file__).resolve().parents[1]
        roots += [Path("dist/out"), Path("dist"), store_root(), *([own / "dist" / "out"] if _is_checkout(own) else [])]
    first: dict[str, Path] = {}
    for root in roots:
        first.setdefault(os.path.realpath(root), root)
    return list(first.values())


def store_root() -> Path:
    """Return the directory of artefacts that every directory finds."""
    return data_directory() / "models"


def checkout_root() -> Path | None:
    """Return the checkout of Argosy around the current directory, if there is one; relative if it is that one."""
    if _is_checkout(Path()):
        return Path()
    with contextlib.suppress(OSError):  # the current directory was removed
        return next(filter(_is_checkout, Path.cwd().parents), None)
    return None


def _is_checkout(directory: Path) -> bool:
    return (directory / "dist" / "build_directory.py").is_file() and (directory / "pyproject.toml").is_file()


# Build option -> what precedes its value in the name of a directory.
_MARKS = {
    "rounding": "", "context-window": "ctx", "prefill-chunk": "chunk", "max-batch": "batch", "activations": "",
    "kv": "kv",
}  # fmt: skip


def artefact_name(model: str, quantization: str, options: Mapping[str, str] | None = None) -> str:
    """Name the directory of a model (a name, an id or a path) in a scheme, such as `smollm2-135m-q4f16_1`.

    `options` are those of the build that are not the defaults; each adds a part, such as `-ctx2048`.

    Raises UsageError if no character of the model's name is safe in a file name.
    """
    slug = model_slug(model)
    if not slug:
        hint = "name the directory with `--output DIR`, or rename the model in Latin letters"
        raise UsageError(f"no directory can be named after the model `{model}`", hint)
    parts = (f"-{mark}{options[name]}" for name, mark in _MARKS.items() if options and name in options)
    return f"{slug}-{quantization}{''.join(parts)}"


def option_words(options: Mapping[str, str]) -> list[str]:
    """Return options as words of a command line, such as `--context-window 2048`."""
    return [word for name in _MARKS if name in options for word in (f"--{name}", options[name])]


def library_name(model: str, quantization: str, target: str, suffix: str) -> str:
    """Name the library for a target, such as `smollm2-135m-q4f16_1-cpu.so`; the name is safe in a URL too."""
    return f"{model_slug(model) or 'model'}-{quantization}-{target}{suffix}"


def model_slug(model: str) -> str:
    """Return the last part of a name, an id or a path, reduced to characters safe in file names; it may be empty."""
    last = re.sub(r"\.gguf$", "", Path(model).name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", last).strip("-.")[:80]


def build_command(
    model: str, target: str, quantization: str, directory: Path | None = None, options: Mapping[str, str] | None = None
) -> str:
    """Return the `argosy build` command with these arguments, quoted for a shell.

    `--output` is left out if `directory` is the default one.
    """
    shown = model if model.isprintable() else one_line(model, 200)  # it may come from a manifest
    words = ["argosy", "build", "--model", shown, "--target", target, "--quantization", quantization]
    words += option_words(options or {})
    if directory is not None and not _is_usual(directory, model, quantization, options):
        words += ["--output", str(directory)]
    return shlex.join(words)


def _is_usual(directory: Path, model: str, quantization: str, options: Mapping[str, str] | None) -> bool:
    """Return whether `directory` is where `argosy build` writes by default."""
    if not model_slug(model):
        return False
    return directory.resolve() == (output_root() / artefact_name(model, quantization, options)).resolve()
