"""Recognise checkpoints by their files, without opening them."""

from __future__ import annotations

import os
from pathlib import Path


def is_checkpoint(path: Path) -> bool:
    """Return whether `path` looks like a checkpoint: a GGUF file, or a directory with a config or such a file."""
    if os.path.isfile(path):
        return path.suffix.lower() == ".gguf"
    if not os.path.isdir(path):
        return False
    try:
        return (path / "config.json").is_file() or any(_is_gguf(entry) for entry in path.iterdir())
    except OSError:
        return False


def _is_gguf(path: Path) -> bool:
    return path.suffix.lower() == ".gguf" and path.is_file()
