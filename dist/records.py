"""JSON files that somebody else may have written go in, checked values come out.

Every reader of the artefact goes through `read_json` and `Fields`: a file that is too large, is no JSON, lacks a field
or holds another type is one ArtefactError that names the file and the field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from argosy.support.errors import ArtefactError
from argosy.support.text import shorten

MAX_JSON_BYTES = 64 << 20
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_plain_name(name: str) -> bool:
    """Whether `name` is a file name without folders, a dot in front, or characters that mean something to a shell."""
    return _PLAIN_NAME.fullmatch(name) is not None


class Fields:
    """One JSON object with typed access; errors say `file: where.field ...`."""

    def __init__(self, value: object, file: Path, where: str = "", hint: str | None = None) -> None:
        self.file = file
        self.where = where
        self.hint = hint
        if not isinstance(value, dict):
            raise self.error(where or "the whole file", f"is {shorten(value)} and not an object")
        self.values: dict[str, object] = value

    def error(self, field: str, problem: str) -> ArtefactError:
        """The error for `field`."""
        return ArtefactError(f"`{self.file}` is malformed: `{field}` {problem}", self.hint)

    def _path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def _get(self, name: str, kind: type, words: str) -> object:
        if name not in self.values:
            raise self.error(self._path(name), "is missing")
        value = self.values[name]
        if type(value) is not kind:
            raise self.error(self._path(name), f"is {shorten(value)} and not {words}")
        return value

    def text(self, name: str) -> str:
        """A string."""
        value = self._get(name, str, "a string")
        assert isinstance(value, str)
        return value

    def optional_text(self, name: str) -> str | None:
        """A string, or None when the field is missing or null."""
        return None if self.values.get(name) is None else self.text(name)

    def integer(self, name: str, minimum: int | None = None, default: int | None = None) -> int:
        """A whole number, at least `minimum`; `default` when it is given and the field is missing or null."""
        if default is not None and self.values.get(name) is None:
            return default
        value = self._get(name, int, "a whole number")
        assert isinstance(value, int)
        if minimum is not None and value < minimum:
            raise self.error(self._path(name), f"is {shorten(value)} and not at least {minimum}")
        return value

    def number(self, name: str, default: float) -> float:
        """A finite number; `default` when the field is missing or null."""
        value = self.values.get(name)
        if value is None:
            return default
        if type(value) not in (int, float) or not abs(value) < 1e9:  # type: ignore[arg-type]
            raise self.error(self._path(name), f"is {shorten(value)} and not a number")
        return float(value)  # type: ignore[arg-type]

    def integers(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        value = self._get(name, list, "a list")
        assert isinstance(value, list)
        if any(type(item) is not int for item in value):
            raise self.error(self._path(name), f"is {shorten(value)} and not a list of whole numbers")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._get(name, list, "a list")
        assert isinstance(value, list)
        if any(type(item) is not str for item in value):
            raise self.error(self._path(name), f"is {shorten(value)} and not a list of strings")
        return tuple(value)

    def file_name(self, name: str) -> str:
        """A plain file name, so that a path can never leave the directory."""
        value = self.text(name)
        if not is_plain_name(value):
            raise self.error(self._path(name), f"is {shorten(value)} and not a plain file name")
        return value

    def file_names(self, name: str) -> tuple[str, ...]:
        """A list of plain file names."""
        names = self.texts(name)
        for index, value in enumerate(names):
            if not is_plain_name(value):
                raise self.error(f"{self._path(name)}[{index}]", f"is {shorten(value)} and not a plain file name")
        return names

    def sha256(self, name: str) -> str:
        """A SHA-256 in hex."""
        value = self.text(name)
        if _SHA256.fullmatch(value) is None:
            raise self.error(self._path(name), f"is {shorten(value)} and not a SHA-256")
        return value

    def child(self, name: str) -> Fields:
        """The object in `name`."""
        return Fields(self._get(name, dict, "an object"), self.file, self._path(name), self.hint)

    def children(self, name: str) -> Iterator[Fields]:
        """The objects in the list `name`."""
        value = self._get(name, list, "a list")
        assert isinstance(value, list)
        for index, item in enumerate(value):
            yield Fields(item, self.file, f"{self._path(name)}[{index}]", self.hint)

    def items(self, name: str) -> Iterator[tuple[str, Fields]]:
        """The objects in the object `name`, with their keys."""
        group = self.child(name)
        for key in group.values:
            yield key, group.child(key)


def read_json(path: Path, hint: str | None = None) -> Fields:
    """The JSON object in `path`.

    Raises ArtefactError for a file that is missing, unreadable, larger than `MAX_JSON_BYTES`, or not a JSON object.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except FileNotFoundError:
        raise ArtefactError(f"`{path}` is missing", hint) from None
    except OSError as error:
        raise ArtefactError(f"`{path}` cannot be read: {error.strerror}", hint) from None
    if len(data) > MAX_JSON_BYTES:
        raise ArtefactError(f"`{path}` is malformed: it is larger than {MAX_JSON_BYTES >> 20} MiB", hint)
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"`{path}` is malformed: it is not JSON ({shorten(str(error), 80)})", hint) from None
    return Fields(value, path, hint=hint)
