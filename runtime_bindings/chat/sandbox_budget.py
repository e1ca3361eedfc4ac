"""Count what a template's rendering does, so that it ends within bounds of work and memory on every machine alike.

Work is counted in steps of about a microsecond: one for an expression or a turn of a loop, and more in proportion to
the size of what an operation reads or makes. `runtime_bindings/web/src/template/limits.ts` has the same limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Protocol

from jinja2 import Undefined
from jinja2.filters import _GroupTuple
from jinja2.sandbox import SecurityError
from markupsafe import Markup

LIMITS = {
    "sourceCharacters": 65_536,  # the longest chat templates in use have about 30,000
    "nodes": 10_000,  # of the syntax tree
    "nesting": 100,  # of nodes
    "work": 200_000,
    "workPerInput": 4,  # further steps for a character of the messages and variables
    "charactersPerWork": 64,  # that are copied or compared in a step
    "valueCharacters": 2_000_000,
    "valuePerInput": 4,  # further characters of a value for a character of the messages and variables
    "valueNesting": 64,
    "calls": 64,  # of macros, in each other
    "integer": 2**53 - 1,
    "formatWidth": 1000,
    "precision": 100,
    "range": 100_000,
    "lazy": 32,  # filters over each other that give their items one by one
}
CALL = 8  # steps of a filter, method or function; a macro takes twice as many
ITEM = 16  # weight of a number, or of a list without its items, in characters

# The types that a template's containers have. `type(x) in ...` is many times faster than a check of subclasses.
VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
CONTAINERS = frozenset({dict, list, tuple, _GroupTuple, *VIEWS})


class LimitExceeded(SecurityError):
    """The template exceeds its bounds of work or memory."""


class Budget:
    """The work that a rendering has left, and the size that its values may have."""

    __slots__ = ("calls", "depth", "value_limit", "work")

    def __init__(self, input_weight: int = 0) -> None:
        self.work = LIMITS["work"] + LIMITS["workPerInput"] * input_weight
        self.value_limit = LIMITS["valueCharacters"] + LIMITS["valuePerInput"] * input_weight
        self.calls = 0
        self.depth = 0  # of the value that was weighed last

    def spend(self, steps: int) -> None:
        self.work -= steps
        if self.work < 0:
            raise LimitExceeded("it does too much")

    def spend_characters(self, count: int, cost: int = 1) -> None:
        """Charge for `count` characters, of which each takes `cost` times as long as to copy it."""
        self.spend(1 + count * cost // LIMITS["charactersPerWork"])

    def check_size(self, size: float) -> None:
        if size > self.value_limit:
            raise LimitExceeded("it builds a value that is too large")

    def weigh(self, value: Any) -> int:
        """Count the characters in `value` and in all that it holds, as often as it occurs, and charge for the walk.

        Raises LimitExceeded above the limit on a value, and for containers that are nested too deep.
        """
        self.depth = 0
        if isinstance(value, str):
            return len(value)
        if type(value) not in CONTAINERS:
            return ITEM
        total, stack = 0, [(value, 1)]
        while stack:
            container, depth = stack.pop()
            self.depth = max(self.depth, depth)
            if depth > LIMITS["valueNesting"]:
                raise LimitExceeded("it nests values too deep")
            self.spend(1 + len(container))
            total += ITEM
            parts = chain(container, container.values()) if type(container) is dict else container
            for part in parts:
                if type(part) in CONTAINERS:
                    stack.append((part, depth + 1))
                else:
                    total += ITEM + (len(part) if isinstance(part, str) else 0)
            self.check_size(total)
        return total

    def size(self, value: Any) -> int:
        """Return a value's weight, and charge for reading it."""
        weight = self.weigh(value)
        self.spend_characters(weight)
        return weight

    def iterated(self, value: Any) -> Any:
        """Return a value whose items are about to be read, and charge for them."""
        if type(value) in CONTAINERS or isinstance(value, str | range):
            self.spend(len(value))
        elif not isinstance(value, Lazy | Undefined):
            raise TypeError(f"a value of type {type(value).__name__} has no items")
        return value

    def admit(self, value: Any) -> Any:
        """Return the result of an operation, after a check and a charge for its size."""
        if isinstance(value, str):
            self.check_size(len(value))
            self.spend_characters(len(value))
        elif isinstance(value, int):
            if abs(value) > LIMITS["integer"]:
                raise LimitExceeded("it computes an integer that is too large")
        elif isinstance(value, list | tuple | dict):
            self.spend(1 + len(value) // 4)
            self.check_size(len(value) * ITEM)
        elif isinstance(value, complex | bytes | bytearray):
            raise SecurityError(f"it makes a value of type {type(value).__name__}")
        return value


class Lazy:
    """The items of a filter that gives them one by one, each charged for."""

    __slots__ = ("_budget", "_items", "depth")

    def __init__(self, items: Iterator[Any], budget: Budget, depth: int) -> None:
        if depth > LIMITS["lazy"]:
            raise LimitExceeded("it nests filters too deep")
        self._items = items
        self._budget = budget
        self.depth = depth

    def __iter__(self) -> Lazy:
        return self

    def __next__(self) -> Any:
        self._budget.spend(2)
        return next(self._items)

    def __repr__(self) -> str:
        return "<generator>"


def weight_of_input(value: Any) -> int:
    """Count the characters of the messages and variables, with `ITEM` for each that is not text."""
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        total += ITEM
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, dict):
            stack += item.keys()
            stack += item.values()
        elif isinstance(item, list | tuple):
            stack += item
    return total


def is_text(value: Any) -> bool:
    return type(value) in (str, Markup)


class Sandbox(Protocol):
    """What filters and methods need of the sandbox's environment."""

    @property
    def budget(self) -> Budget: ...
    def text(self, value: Any) -> str: ...
    def check_writable(self, value: Any) -> None: ...
    def joined(self, texts: list[str], separator: str = "") -> str: ...
    def compare(self, value: Any, operations: tuple[tuple[str, Any], ...]) -> Any: ...
    def getattr(self, obj: Any, attribute: str) -> Any: ...
    def getitem(self, obj: Any, argument: Any) -> Any: ...
    def attribute(self, obj: Any, name: str) -> Any: ...
    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any: ...
    def is_function(self, value: Any) -> bool: ...
