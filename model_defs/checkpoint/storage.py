"""Open a checkpoint's files, and parse its JSON strictly."""

from __future__ import annotations

import json
from pathlib import Path

from argosy.support.bounded_file import AGAIN, BoundedFile
from argosy.support.errors import CheckpointError
from argosy.support.text import one_line

JSON_LIMIT = 256 << 20  # bytes; the largest tokenizer.json in use have about 35 MB


def open_file(path: Path) -> BoundedFile:
    """Open `path`; everything that is wrong with it is a CheckpointError."""
    return BoundedFile(path, CheckpointError)


def read_small(path: Path, limit: int = JSON_LIMIT) -> bytes:
    """Read a whole text or JSON file, unless it is larger than any genuine one."""
    with open_file(path) as file:
        return file.read_all(limit)


def parse_json(data: bytes, what: str) -> object:
    """Parse JSON, refusing duplicate keys, which two readers would resolve differently.

    Raises CheckpointError, which begins with `what`.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        out = dict(pairs)
        if len(out) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise CheckpointError(f"{what} has the key `{one_line(twice)}` twice", AGAIN)
        return out

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError:
        raise CheckpointError(f"{what} is not UTF-8 text", AGAIN) from None
    except RecursionError:
        raise CheckpointError(f"{what} is nested too deeply", AGAIN) from None
    except ValueError as error:
        raise CheckpointError(f"{what} is not JSON: {one_line(error, 200)}", AGAIN) from None


def parse_object(data: bytes, what: str) -> dict[str, object]:
    """Parse a JSON object."""
    value = parse_json(data, what)
    if not isinstance(value, dict):
        raise CheckpointError(f"{what} holds a {type(value).__name__}, not an object", AGAIN)
    return value
