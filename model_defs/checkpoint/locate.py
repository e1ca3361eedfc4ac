"""Finding out what a path is: a path goes in, the checkpoint behind it comes out."""

from __future__ import annotations

from pathlib import Path

from argosy.model_defs.checkpoint.base import Checkpoint
from argosy.model_defs.checkpoint.gguf_checkpoint import GgufCheckpoint
from argosy.model_defs.checkpoint.huggingface import HuggingFaceCheckpoint
from argosy.model_defs.checkpoint.storage import StoredFile, printable
from argosy.support.errors import CheckpointError

WANTED = "pass a Hugging Face directory (config.json and weights) or a GGUF file"


def open_checkpoint(path: str | Path) -> Checkpoint:
    """The checkpoint at `path`: a Hugging Face directory, a GGUF file, or a directory with one GGUF file in it.

    All headers are checked here: sizes, offsets, names, types. Raises CheckpointError for what is missing or
    malformed, UnsupportedModelError for what is sound but not supported.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return _open_file(path)
        if (path / "config.json").exists():
            return HuggingFaceCheckpoint(path)
        found = sorted(path.glob("*.gguf"))
    except (OSError, ValueError) as error:  # a name with a null byte, a link to itself, no permission
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"`{printable(path)}` cannot be read: {printable(reason)}", "check the path") from None
    if len(found) == 1:
        return GgufCheckpoint(found[0])
    if found:
        names = ", ".join(printable(file.name) for file in found[:5])
        raise CheckpointError(f"`{printable(path)}` holds {len(found)} GGUF files", f"name one of them: {names}")
    raise CheckpointError(f"`{printable(path)}` has no `config.json`", WANTED)


def _open_file(path: Path) -> Checkpoint:
    """The checkpoint that is one file."""
    file = StoredFile(path)
    if path.suffix in (".safetensors", ".bin", ".json", ".pt", ".pth"):
        raise CheckpointError(
            f"`{printable(path)}` is one file of a checkpoint", f"pass its directory: {printable(path.parent)}"
        )
    if file.size < 4 or file.bytes_at(0, 4) != b"GGUF":
        raise CheckpointError(f"`{printable(path)}` is neither a directory nor a GGUF file", WANTED)
    return GgufCheckpoint(path)
