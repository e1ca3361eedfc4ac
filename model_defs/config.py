"""Read a Hugging Face `config.json`, which may hold anything, with types and clear errors."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NoReturn, TypeGuard, TypeVar

from argosy.support.errors import CheckpointError, UnsupportedModelError, UsageError
from argosy.support.text import one_line

T = TypeVar("T")
LIMIT = (1 << 31) - 1  # no number in a config is larger
# Limits of numbers that decide how long reading a config takes: several times those of any model.
LIMITS = {
    "num_hidden_layers": 1024,
    "num_attention_heads": 4096,
    "num_key_value_heads": 4096,
    "hidden_size": 1 << 18,
    "head_dim": 1 << 13,
}


class Config:
    """A model's configuration with typed access.

    A key that is absent or null has the default of the family's reference implementation; without a default it is an
    error. `chosen_window` is the context window that the user chose, or None.
    """

    def __init__(self, values: Mapping[str, object], chosen_window: int | None = None) -> None:
        if not isinstance(values, Mapping):
            raise CheckpointError(f"`config.json` holds a {type(values).__name__}, not an object")
        self.values = values
        self.chosen_window = chosen_window

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def integer(self, key: str, default: int | None = None, least: int = 1) -> int:
        """Return the whole number at `key`, at least `least`."""
        value = self._value(key, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(key, value, "a whole number")
        most = LIMITS.get(key, LIMIT)
        if not least <= value <= most:
            self._wrong(key, value, f"a whole number from {least} to {most}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return the finite number at `key`."""
        value = self._value(key, default)
        if not _is_number(value):
            self._wrong(key, value, "a finite number")
        return float(value)

    def optional(self, key: str, absent: int | None) -> int | None:
        """Return the whole number above zero at `key`, None if it is null, `absent` if there is no such key."""
        return self.integer(key) if key in self else (None if key in self.values else absent)

    def positive(self, key: str, default: float | None = None) -> float:
        """Return the finite number above zero at `key`."""
        value = self.number(key, default)
        if value <= 0:
            self._wrong(key, value, "a number above zero")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Return the truth value at `key`."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Return the text at `key`."""
        value = self._value(key, default)
        if not isinstance(value, str):
            self._wrong(key, value, "text")
        return value

    def numbers(self, key: str, count: int) -> list[float]:
        """Return the list of `count` finite numbers above zero at `key`."""
        value = self._value(key, None)
        if not isinstance(value, list) or len(value) != count:
            self._wrong(key, value, f"a list of {count} numbers")
        for item in value:
            if not _is_number(item) or item <= 0:
                self._wrong(key, item, "numbers above zero")
        return [float(item) for item in value]

    def words(self, key: str, count: int) -> list[str] | None:
        """Return the list of `count` words at `key`, or None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != count or not all(isinstance(item, str) for item in value):
            self._wrong(key, value, f"a list of {count} words")
        return value

    def section(self, key: str) -> Config | None:
        """Return the object at `key` with typed access of its own, or None if there is none."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._wrong(key, value, "an object")
        return Config(value, self.chosen_window)

    def renamed(self, names: Mapping[str, str]) -> Config:
        """Return the same config with its keys renamed (`names`: theirs -> ours)."""
        return Config({names.get(key, key): value for key, value in self.values.items()}, self.chosen_window)

    def only(self, key: str, *allowed: object) -> None:
        """Refuse a setting that would change the computation in a way that is not implemented.

        Null or absent is always allowed.
        """
        value = self.values.get(key)
        if value is not None and value not in allowed:
            words = " or ".join(f"`{one_line(a)}`" for a in allowed)
            raise UnsupportedModelError(
                f"`{key}: {one_line(value)}` is not supported" + (f"; only {words} is" if words else "")
            )

    def choice(self, key: str, table: Mapping[str, T], default: str) -> T:
        """Return the entry of `table` for the word at `key`; a word without one is not supported."""
        word = self.text(key, default)
        if word not in table:
            raise UnsupportedModelError(f"`{key}: {one_line(word)}` is not supported", f"one of: {', '.join(table)}")
        return table[word]

    def context_window(self, promised: int, limit: int | None = None) -> int:
        """Return the chosen context window, which `limit` (by default `promised`) bounds, or `promised` if none is."""
        limit = promised if limit is None else limit
        if self.chosen_window is None:
            return promised
        if not 1 <= self.chosen_window <= limit:
            raise UsageError(
                f"a context window of `{self.chosen_window}` tokens is out of the model's range",
                f"choose from 1 to {limit}",
            )
        return self.chosen_window

    def _value(self, key: str, default: object) -> object:
        value = self.values.get(key)
        if value is None:
            value = default
        if value is None:
            raise CheckpointError(f"`config.json` lacks `{key}`")
        return value

    def _wrong(self, key: str, value: object, wanted: str) -> NoReturn:
        raise CheckpointError(f"`{key}` in `config.json` is `{one_line(value)}`, which is not {wanted}")


def _is_number(value: object) -> TypeGuard[int | float]:
    """Return whether `value` is a number that fits into a float; JSON has whole numbers of any length."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
