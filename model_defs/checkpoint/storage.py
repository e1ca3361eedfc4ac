"""The trust boundary to the file system: paths go in; regular files with checked reads, and checked JSON, come out."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import numpy as np

from argosy.support.errors import CheckpointError

JSON_LIMIT = 256 << 20  # bytes; the largest tokenizer.json in use are about 35 MB


def printable(value: object) -> str:
    """`value` as one short printable line for a message."""
    text = value if isinstance(value, str) else str(value)
    text = "".join(c if c.isprintable() and c != "`" else "?" for c in text[:200])
    return text if len(text) <= 120 else text[:58] + "..." + text[-58:]


class StoredFile:
    """A regular file, opened for reading at offsets that are checked against its size."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
                raise CheckpointError(
                    f"`{printable(path)}` is not a regular file", "pass a file or a directory with a model"
                )
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - it lives as long as this object
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise CheckpointError(f"`{printable(path)}` does not exist", "check the path") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CheckpointError(
                f"`{printable(path)}` cannot be read: {printable(reason)}", "check the file"
            ) from None
        self._lock = threading.Lock()

    def read_at(self, offset: int, size: int) -> np.ndarray:
        """`size` bytes from `offset` as a fresh uint8 array.

        Raises CheckpointError where the file ends before them.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.short(offset, size)
        out = np.empty(size, np.uint8)
        view, done = memoryview(out), 0
        try:
            with self._lock:
                self._file.seek(offset)
                while done < size:
                    count = self._file.readinto(view[done:])
                    if not count:
                        raise self.short(offset, size)
                    done += count
        except OSError as error:
            raise CheckpointError(
                f"reading `{printable(self.path)}` failed: {error.strerror}", "check the disk"
            ) from None
        return out

    def bytes_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`."""
        return self.read_at(offset, size).tobytes()

    def short(self, offset: int, size: int) -> CheckpointError:
        """The error for `size` bytes at `offset` that are not in the file."""
        return CheckpointError(
            f"`{printable(self.path)}` is truncated: {size} bytes are needed at offset {offset}, it has {self.size}",
            "download or copy the file again",
        )


def read_small(path: Path, limit: int = JSON_LIMIT) -> bytes:
    """The whole of a text or JSON file, unless it is larger than any honest one."""
    file = StoredFile(path)
    if file.size > limit:
        raise CheckpointError(
            f"`{printable(path)}` has {file.size} bytes, more than the {limit} allowed", "check the file"
        )
    return file.bytes_at(0, file.size)


def parse_json(data: bytes, what: str) -> object:
    """The JSON in `data`. Duplicate keys, which two readers would understand differently, are refused.

    Raises CheckpointError, naming `what`.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        out = dict(pairs)
        if len(out) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise CheckpointError(f"{what} has the key `{printable(twice)}` twice", "download or copy the file again")
        return out

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except UnicodeDecodeError:
        raise CheckpointError(f"{what} is not UTF-8 text", "download or copy the file again") from None
    except RecursionError:
        raise CheckpointError(f"{what} is nested too deeply", "download or copy the file again") from None
    except ValueError as error:
        raise CheckpointError(f"{what} is not JSON: {printable(error)}", "download or copy the file again") from None


def parse_object(data: bytes, what: str) -> dict[str, object]:
    """The JSON object in `data`."""
    value = parse_json(data, what)
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{what} holds a {type(value).__name__}, not an object", "download or copy the file again"
        )
    return value
