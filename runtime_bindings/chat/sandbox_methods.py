"""The methods that a template may call on a value, and formatting, with bounds on what they read and make."""

from __future__ import annotations

import re
import string
from _string import formatter_field_name_split  # type: ignore[import-not-found]
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2.sandbox import SecurityError
from markupsafe import Markup, escape

from argosy.runtime_bindings.chat.sandbox_budget import LIMITS, LimitExceeded, Sandbox, is_text

# Methods that read the text, or write one of about the same size: how much longer a character takes than to copy it.
_SCANS = {
    "capitalize": 8, "casefold": 8, "count": 2, "endswith": 1, "find": 2, "index": 2, "isalnum": 4, "isalpha": 4,
    "isascii": 1, "isdecimal": 4, "isdigit": 4, "isidentifier": 4, "islower": 4, "isnumeric": 4, "isprintable": 4,
    "isspace": 4, "istitle": 4, "isupper": 4, "lower": 8, "partition": 2, "removeprefix": 1, "removesuffix": 1,
    "split": 8, "splitlines": 8, "startswith": 1, "swapcase": 8, "title": 16, "upper": 8,
}  # fmt: skip
# Methods whose work is the product of the text's length and their argument's.
_PRODUCTS = frozenset({"lstrip", "rstrip", "strip", "rfind", "rindex", "rpartition", "rsplit"})
_WIDTHS = frozenset({"center", "ljust", "rjust", "zfill"})
TEXT_METHODS = frozenset(_SCANS) | _PRODUCTS | _WIDTHS | {"expandtabs", "replace", "join", "format", "format_map"}
METHODS: Mapping[type, frozenset[str]] = {
    str: TEXT_METHODS,
    Markup: TEXT_METHODS,
    list: frozenset({"index", "count", "copy"}),
    tuple: frozenset({"index", "count"}),
    dict: frozenset({"get", "items", "keys", "values", "copy"}),
    float: frozenset({"is_integer"}),
}


class Method:
    """A method of a value, bound to it."""

    __slots__ = ("_environment", "_name", "_owner")

    def __init__(self, environment: Sandbox, owner: Any, name: str) -> None:
        self._environment = environment
        self._owner = owner
        self._name = name

    def __repr__(self) -> str:
        return "<method>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        environment, owner, name = self._environment, self._owner, self._name
        budget = environment.budget
        if is_text(owner):
            return budget.admit(_call_text(environment, owner, name, args, kwargs))
        if not isinstance(owner, float) and name not in ("get", "items", "keys", "values"):
            budget.size(owner)  # `index`, `count` and `copy` go through all of it
        return budget.admit(getattr(owner, name)(*args, **kwargs))


def _call_text(environment: Sandbox, text: str, name: str, args: tuple[Any, ...], kwargs: Any) -> Any:
    budget = environment.budget
    if name == "format":
        return format_text(environment, text, args, kwargs)
    if name == "format_map":
        return format_text(environment, text, (), *args, **kwargs)
    if name == "join":
        args = (list(environment.budget.iterated(args[0])), *args[1:]) if args else args
        items = args[0] if args else []
        budget.check_size(sum(len(item) for item in items if isinstance(item, str)) + len(text) * len(items))
    elif name == "replace":
        budget.check_size(replaced_size(text, *args[:2]))
    elif name in _WIDTHS:
        budget.check_size(max(len(text), *(width for width in args[:1] if isinstance(width, int)), 0))
    elif name == "expandtabs":
        width = args[0] if args else kwargs.get("tabsize", 8)
        budget.check_size(len(text) + text.count("\t") * width if isinstance(width, int) else 0)
    elif name in _PRODUCTS:
        longest = max((len(argument) for argument in (*args, *kwargs.values()) if isinstance(argument, str)), default=1)
        budget.spend_characters(len(text) * max(longest, 1))
    budget.spend_characters(len(text), _SCANS.get(name, 8))
    return getattr(text, name)(*args, **kwargs)


def replaced_size(text: str, old: Any = "", new: Any = "", *_: Any) -> int:
    """Return the length of `text.replace(old, new)`, or more."""
    old, new = str(old), str(new)
    return len(text) + (text.count(old) if old else len(text) + 1) * len(new)


def percent_format(environment: Sandbox, text: str, value: Any) -> str:
    """Return `text % value`, after a check of its widths, its precisions and the size of its result."""
    fields = 0
    for match in re.finditer(r"%(\([^()]*\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d*))?", text):
        if match[1] is None and text.startswith("(", match.start() + 1):
            raise SecurityError("it nests parentheses in a format")
        fields += 1
        for number in (match[2], match[3]):
            if number == "*" or (number and (len(number) > 9 or int(number) > LIMITS["formatWidth"])):
                raise LimitExceeded("its format is too wide")
    budget = environment.budget
    budget.spend_characters(len(text), 8)
    repeated = fields if isinstance(value, dict) else 1
    budget.check_size(len(text) + fields * LIMITS["formatWidth"] + budget.size(value) * repeated)
    for part in value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else (value,):
        environment.check_writable(part)
    return text % value  # type: ignore[no-any-return]


def format_text(environment: Sandbox, text: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return `text.format(*args, **kwargs)`, whose fields reach no further than the template itself does."""
    environment.budget.spend_characters(len(text), 8)
    formatted = _Formatter(environment, escape if isinstance(text, Markup) else str).vformat(str(text), args, kwargs)
    return Markup(formatted) if isinstance(text, Markup) else formatted


class _Formatter(string.Formatter):
    def __init__(self, environment: Sandbox, write: Callable[[str], str]) -> None:
        self._environment = environment
        self._write = write
        self._size = 0

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        first, rest = formatter_field_name_split(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, name in rest:
            value = self._environment.getattr(value, name) if is_attribute else self._environment.getitem(value, name)
        return value, first

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion is None:
            return value
        self._environment.check_writable(value)
        self._environment.budget.size(value)
        return super().convert_field(value, conversion)

    def format_field(self, value: Any, format_spec: str) -> str:
        budget = self._environment.budget
        if any(len(number) > 9 or int(number) > LIMITS["formatWidth"] for number in re.findall(r"\d+", format_spec)):
            raise LimitExceeded("its format is too wide")
        if format_spec and isinstance(value, str | int | float):
            text = self._write(format(value, format_spec))
        elif format_spec:
            raise TypeError(f"a format for a value of type {type(value).__name__}")
        else:
            text = self._write(self._environment.text(value))
        self._size += len(text)
        budget.check_size(self._size)
        budget.spend_characters(len(text))
        return text
