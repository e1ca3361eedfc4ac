"""Open a checkpoint's files, and parse its JSON strictly."""

from __future__ import annotations

from pathlib import Path

from argosy.support.bounded_file import AGAIN, BoundedFile
from argosy.support.errors import CheckpointError
from argosy.support.strict_json import MEMORY, JsonError, parse_json

JSON_LIMIT = 256 << 20  # bytes; the largest tokenizer.json in use have about 35 MB


def open_file(path: Path) -> BoundedFile:
    """Open `path`; everything that is wrong with it is a CheckpointError."""
    return BoundedFile(path, CheckpointError)


def gguf_files(directory: Path) -> list[Path]:
    """List the GGUF files in a directory, in whichever case their names end."""
    return sorted(path for path in directory.iterdir() if path.suffix.lower() == ".gguf")


def read_small(path: Path, limit: int = JSON_LIMIT) -> bytes:
    """Read a whole text or JSON file, unless it is larger than any genuine one."""
    with open_file(path) as file:
        return file.read_all(limit)


def parse_object(data: bytes, what: str, memory: int = MEMORY) -> dict[str, object]:
    """Parse a JSON object strictly (`argosy.support.strict_json`).

    Raises CheckpointError, which begins with `what`.
    """
    try:
        value = parse_json(data, memory)
    except JsonError as problem:
        raise CheckpointError(f"{what} {problem}", AGAIN) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} holds a {type(value).__name__}, not an object", AGAIN)
    return value
