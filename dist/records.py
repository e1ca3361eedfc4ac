"""Read JSON files that may be malformed, with typed access to their fields.

All readers of an artefact go through `read_json` and `Fields`, which raise an ArtefactError with the file and the field
for a file that is too large or not JSON, and for a field that is missing or of the wrong type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from argosy.support.bounded_file import BoundedFile, path_line
from argosy.support.errors import ArtefactError
from argosy.support.strict_json import JsonError, parse_json
from argosy.support.text import one_line

MAX_JSON_BYTES = 64 << 20
WORD_LIMIT = 1000  # characters
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_plain_name(name: str) -> bool:
    """Return whether `name` is a file name without folders, a leading dot, or characters special to a shell."""
    return _PLAIN_NAME.fullmatch(name) is not None


class Fields:
    """One JSON object with typed access; errors name the file and the path of the field."""

    def __init__(self, value: object, file: Path, where: str = "", hint: str | None = None) -> None:
        self.file = file
        self.where = where
        self.hint = hint
        if not isinstance(value, dict):
            raise self.error(where or "the whole file", f"is `{one_line(repr(value))}`, not an object")
        self.values: dict[str, object] = value

    def error(self, field: str, problem: str) -> ArtefactError:
        """Make the error for `field`."""
        name = one_line(field, 200)  # a field's name comes from the file, too
        return ArtefactError(f"`{path_line(self.file)}` is malformed: `{name}` {problem}", self.hint)

    def _path(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name

    def _get(self, name: str, kind: type, words: str) -> object:
        if name not in self.values:
            raise self.error(self._path(name), "is missing")
        value = self.values[name]
        if type(value) is not kind:
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not {words}")
        return value

    def text(self, name: str) -> str:
        """Return a string."""
        value = self._get(name, str, "a string")
        assert isinstance(value, str)
        return value

    def word(self, name: str) -> str:
        """Return a string of printable characters, which an error message may repeat."""
        value = self.text(name)
        if not value.isprintable() or len(value) > WORD_LIMIT:
            raise self.error(self._path(name), f"is `{one_line(value)}`, not a short text of printable characters")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        """Return a list of strings of printable characters."""
        values = self.texts(name)
        for index, value in enumerate(values):
            if not value.isprintable() or len(value) > WORD_LIMIT:
                problem = f"is `{one_line(value)}`, not a short text of printable characters"
                raise self.error(f"{self._path(name)}[{index}]", problem)
        return values

    def optional_text(self, name: str) -> str | None:
        """Return a string, or None if the field is missing or null."""
        return None if self.values.get(name) is None else self.text(name)

    def integer(self, name: str, minimum: int | None = None, default: int | None = None) -> int:
        """Return an integer of at least `minimum`; `default`, if given, for a field that is missing or null."""
        if default is not None and self.values.get(name) is None:
            return default
        value = self._get(name, int, "a whole number")
        assert isinstance(value, int)
        if minimum is not None and value < minimum:
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not at least {minimum}")
        return value

    def number(self, name: str, default: float) -> float:
        """Return a finite number; `default` if the field is missing or null."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not a number")
        return float(value)

    def integers(self, name: str) -> tuple[int, ...]:
        """Return a list of integers."""
        value = self._get(name, list, "a list")
        assert isinstance(value, list)
        if any(type(item) is not int for item in value):
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not a list of whole numbers")
        return tuple(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        value = self._get(name, list, "a list")
        assert isinstance(value, list)
        if any(type(item) is not str for item in value):
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not a list of strings")
        return tuple(value)

    def file_name(self, name: str) -> str:
        """Return a plain file name, which cannot point outside the directory."""
        value = self.text(name)
        if not is_plain_name(value):
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not a plain file name")
        return value

    def file_names(self, name: str) -> tuple[str, ...]:
        """Return a list of plain file names."""
        names = self.texts(name)
        for index, value in enumerate(names):
            if not is_plain_name(value):
                raise self.error(f"{self._path(name)}[{index}]", f"is `{one_line(repr(value))}`, not a plain file name")
        return names

    def sha256(self, name: str) -> str:
        """Return a SHA-256 in hex."""
        value = self.text(name)
        if _SHA256.fullmatch(value) is None:
            raise self.error(self._path(name), f"is `{one_line(repr(value))}`, not a SHA-256")
        return value

    def child(self, name: str) -> Fields:
        """Return the object in `name`."""
        return Fields(self._get(name, dict, "an object"), self.file, self._path(name), self.hint)

    def children(self, name: str) -> Iterator[Fields]:
        """Yield the objects in the list `name`."""
        value = self._get(name, list, "a list")
        assert isinstance(value, list)
        for index, item in enumerate(value):
            yield Fields(item, self.file, f"{self._path(name)}[{index}]", self.hint)

    def items(self, name: str) -> Iterator[tuple[str, Fields]]:
        """Yield the keys and objects of the object `name`."""
        group = self.child(name)
        for key in group.values:
            if not key.isprintable() or len(key) > WORD_LIMIT:
                raise self.error(self._path(name), f"has the key `{one_line(repr(key))}`, which is not printable")
            yield key, group.child(key)


def read_json(path: Path, hint: str | None = None, check: Callable[[bytes], object] | None = None) -> Fields:
    """Read the JSON object in `path`; `check` is called with the file's content before it is parsed.

    Raises ArtefactError for a file that is missing, unreadable, larger than `MAX_JSON_BYTES`, or not a JSON object.
    """
    with BoundedFile(path, ArtefactError, hint, missing="is missing") as file:
        data = file.read_all(MAX_JSON_BYTES)
    if check is not None:
        check(data)
    try:
        value = parse_json(data)
    except JsonError as problem:
        raise ArtefactError(f"`{path_line(path)}` is malformed: it {problem}", hint) from None
    return Fields(value, path, hint=hint)
