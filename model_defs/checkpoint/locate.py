"""Open the checkpoint at a path, whichever its format."""

from __future__ import annotations

from pathlib import Path

from argosy.model_defs.checkpoint.base import Checkpoint
from argosy.model_defs.checkpoint.gguf_checkpoint import GgufCheckpoint
from argosy.model_defs.checkpoint.huggingface import HuggingFaceCheckpoint
from argosy.model_defs.checkpoint.storage import gguf_files, open_file
from argosy.support.bounded_file import path_line
from argosy.support.errors import CheckpointError
from argosy.support.text import one_line

WANTED = "pass a Hugging Face directory (config.json and weights) or a GGUF file"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a Hugging Face directory, a GGUF file, or a directory with one GGUF file in it.

    All headers are checked: sizes, offsets, names, types. Raises CheckpointError for anything missing or malformed,
    UnsupportedModelError for anything sound but unsupported.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _open_file(path)
        if (path / "config.json").exists():
            return HuggingFaceCheckpoint(path)
        found = gguf_files(path)
    except (OSError, ValueError) as error:  # a name with a null byte, a link to itself, no permission
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"`{path_line(path)}` cannot be read: {one_line(reason)}", "check the path") from None
    if len(found) == 1:
        return GgufCheckpoint(found[0])
    if found:
        names = ", ".join(one_line(file.name) for file in found[:5])
        raise CheckpointError(f"`{path_line(path)}` holds {len(found)} GGUF files", f"name one of them: {names}")
    raise CheckpointError(f"`{path_line(path)}` has no `config.json`", WANTED)


def _open_file(path: Path) -> Checkpoint:
    """Open a checkpoint that is one file."""
    file = open_file(path)
    if path.suffix.lower() in (".safetensors", ".bin", ".json", ".pt", ".pth"):
        raise CheckpointError(
            f"`{path_line(path)}` is one file of a checkpoint", f"pass its directory: {path_line(path.parent)}"
        )
    if file.size < 4 or file.read(0, 4) != b"GGUF":
        raise CheckpointError(f"`{path_line(path)}` is neither a directory nor a GGUF file", WANTED)
    return GgufCheckpoint(path)
