"""Jinja's own filters and tests, with bounds on what they read and make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import pass_context
from jinja2.filters import FILTERS, make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import SecurityError
from jinja2.tests import TESTS

from argosy.runtime_bindings.chat.sandbox_budget import (
    CALL,
    ITEM,
    LIMITS,
    Budget,
    Lazy,
    LimitExceeded,
    Sandbox,
    is_text,
)
from argosy.runtime_bindings.chat.sandbox_methods import percent_format, replaced_size

Guard = Callable[..., None]


def _nothing(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
    """For filters that do not depend on the size of the value."""


def _text(cost: int) -> Guard:
    def guard(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
        budget.spend_characters(budget.weigh(value), cost)

    return guard


def _items(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
    budget.iterated(value)


def _lazy(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
    """For filters that begin when their items are read, and give none for what is false, such as None."""
    if hasattr(value, "__len__"):
        budget.iterated(value)


def _ordered(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
    """For filters that compare all items."""
    if not hasattr(value, "__len__"):
        raise SecurityError("it sorts something that has no length")
    budget.spend(len(value) * 4)
    budget.spend_characters(budget.weigh(value), max(1, len(value).bit_length()))


def _batch(budget: Budget, value: Any, linecount: Any, fill_with: Any = None) -> None:
    _lazy(budget, value)
    if fill_with is not None and isinstance(linecount, int):
        budget.spend(max(linecount, 0))


def _slice(budget: Budget, value: Any, slices: Any, fill_with: Any = None) -> None:
    _lazy(budget, value)
    if isinstance(slices, int):
        budget.spend(max(slices, 0))


def _center(budget: Budget, value: Any, width: Any = 80) -> None:
    budget.check_size(max(budget.size(value), width if isinstance(width, int) else 0))


def _indent(budget: Budget, value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> None:
    if not isinstance(value, str):  # Jinja would append to a list in place: to the messages themselves
        raise TypeError(f"a value of type {type(value).__name__} cannot be indented")
    step = width if isinstance(width, int) else budget.weigh(width)
    budget.spend_characters(budget.weigh(value), 8)
    lines = len(str(value).splitlines()) + 1
    budget.check_size(budget.weigh(value) + lines * (step + 1))


def _replace(budget: Budget, value: Any, old: Any = "", new: Any = "", count: Any = None) -> None:
    budget.spend_characters(budget.weigh(value), 4)
    budget.check_size(replaced_size(str(value), old, new))


def _round(budget: Budget, value: Any, precision: Any = 0, method: Any = "common") -> None:
    if not isinstance(precision, int) or abs(precision) > LIMITS["precision"]:
        raise LimitExceeded("it rounds to too many digits")


def _striptags(budget: Budget, value: Any) -> None:
    length = budget.weigh(value)
    budget.spend_characters(length * (1 + str(value).count("<")), 4)  # each tag copies the text


def _trim(budget: Budget, value: Any, chars: Any = None) -> None:
    budget.spend_characters(budget.weigh(value) * max(1, budget.weigh(chars or "")), 8 if chars is None else 1)


def _truncate(
    budget: Budget, value: Any, length: Any = 255, killwords: Any = False, end: Any = "...", leeway: Any = None
) -> None:
    budget.check_size(budget.size(value) + budget.size(end))


def _wordwrap(
    budget: Budget,
    value: Any,
    width: Any = 79,
    break_long_words: Any = True,
    wrapstring: Any = None,
    break_on_hyphens: Any = True,
) -> None:
    length, step = budget.weigh(value), max(1, width if isinstance(width, int) else 1)
    budget.spend_characters(length, 64)
    budget.spend_characters(length * length // step)  # a long word is copied for each of its lines
    lines = 2 * length // step + str(value).count("\n") + 1
    budget.check_size(length + lines * budget.weigh(wrapstring or "\n"))


def _urlize(budget: Budget, value: Any, *args: Any, **kwargs: Any) -> None:
    length = budget.weigh(value)
    budget.spend_characters(length * (length + 256))


def _int(budget: Budget, value: Any, default: Any = 0, base: Any = 10) -> None:
    if isinstance(value, str):
        budget.spend_characters(len(value), 8)
        if len(value) > LIMITS["formatWidth"] and base != 10:
            raise LimitExceeded("it reads a number of too many digits")


GUARDS: dict[str, Guard] = {
    "abs": _nothing, "batch": _batch, "capitalize": _text(8), "center": _center, "count": _nothing, "d": _nothing,
    "default": _nothing, "dictsort": _ordered, "e": _text(8), "escape": _text(8), "filesizeformat": _text(8),
    "first": _nothing, "float": _text(8), "forceescape": _text(8), "groupby": _ordered, "indent": _indent, "int": _int,
    "items": _lazy, "last": _nothing, "length": _nothing, "list": _items, "lower": _text(8), "map": _lazy,
    "max": _ordered, "min": _ordered, "pprint": _text(64), "random": _nothing, "reject": _lazy, "rejectattr": _lazy,
    "replace": _replace, "reverse": _items, "round": _round, "safe": _text(8), "select": _lazy, "selectattr": _lazy,
    "slice": _slice, "sort": _ordered, "string": _text(1), "striptags": _striptags, "title": _text(32), "trim": _trim,
    "truncate": _truncate, "unique": _ordered, "upper": _text(8), "urlencode": _text(32), "urlize": _urlize,
    "wordcount": _text(32), "wordwrap": _wordwrap, "xmlattr": _text(32),
}  # fmt: skip
# Filters that give the items or a property of a value without writing it as text
WRITES_NOTHING = frozenset({
    "abs", "batch", "count", "d", "default", "dictsort", "first", "groupby", "items", "last", "length", "list", "map",
    "max", "min", "random", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "slice", "sort",
    "unique", "int", "float",
})  # fmt: skip
MATERIALIZED = frozenset({"dictsort", "groupby", "max", "min", "sort", "unique"})


def limited_filters(environment: Sandbox) -> dict[str, Callable[..., Any]]:
    """Return the filters of the sandbox: jinja2's, each behind its guard, and those that are written anew."""
    filters = {name: _guarded(FILTERS[name], guard, name) for name, guard in GUARDS.items()}
    return {**filters, "attr": _attr, "format": _format, "join": _join, "sum": _sum, "tojson": _tojson}


def _guarded(inner: Callable[..., Any], guard: Guard, name: str) -> Callable[..., Any]:
    takes = getattr(inner, "jinja_pass_arg", None)
    kind = None if takes is None else takes.name

    @pass_context
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        environment: Sandbox = context.environment  # type: ignore[assignment]
        budget = environment.budget
        budget.spend(CALL)
        if isinstance(value, Lazy) and name in MATERIALIZED:
            depth, value = 0, list(value)
        else:
            depth = value.depth if isinstance(value, Lazy) else 0
        for argument in (*args, *kwargs.values()):
            budget.spend_characters(budget.weigh(argument), 8)
        guard(budget, value, *args, **kwargs)
        if name not in WRITES_NOTHING:
            environment.check_writable(value)
        first = {"context": (context,), "eval_context": (context.eval_ctx,), "environment": (environment,)}
        result = inner(*first.get(kind or "", ()), value, *args, **kwargs)
        if isinstance(result, Iterator):
            return Lazy(result, budget, depth + 1)
        return budget.admit(result)

    return run


@pass_context
def _attr(context: Context, value: Any, name: Any) -> Any:
    environment: Sandbox = context.environment  # type: ignore[assignment]
    return environment.attribute(value, str(name))


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    environment: Sandbox = context.environment  # type: ignore[assignment]
    if args and kwargs:
        raise TypeError("format takes either positional or keyword arguments")
    return str(environment.budget.admit(percent_format(environment, environment.text(value), kwargs or args)))


@pass_context
def _join(context: Context, value: Any, d: Any = "", attribute: Any = None) -> str:
    environment: Sandbox = context.environment  # type: ignore[assignment]
    items = environment.budget.iterated(value)
    if attribute is not None:
        items = map(make_attrgetter(context.environment, attribute), items)
    return environment.joined([environment.text(item) for item in items], environment.text(d))


@pass_context
def _sum(context: Context, value: Any, attribute: Any = None, start: Any = 0) -> Any:
    environment: Sandbox = context.environment  # type: ignore[assignment]
    get = None if attribute is None else make_attrgetter(context.environment, attribute)
    total = start
    if isinstance(start, str):
        raise TypeError("text is not summed, but joined")
    for item in environment.budget.iterated(value):
        total = environment.call_binop(context, "+", total, item if get is None else get(item))
    return total


@pass_context
def _tojson(
    context: Context,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON without HTML escapes, as transformers does."""
    environment: Sandbox = context.environment  # type: ignore[assignment]
    budget = environment.budget
    step = len(indent) if isinstance(indent, str) else indent or 0
    if not 0 <= int(step) <= ITEM:
        raise LimitExceeded(f"it indents JSON by more than {ITEM}")
    weight = budget.weigh(value)
    between = sum(budget.weigh(separator) for separator in separators or ())
    # at most, every item has a separator, a line break and the indentation of the deepest level
    budget.check_size(weight + weight // ITEM * (between + 1 + step * budget.depth))
    budget.spend_characters(weight, 8)
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    return str(budget.admit(text))


def limited_tests(environment: Sandbox) -> dict[str, Callable[..., Any]]:
    """Return jinja2's tests, those that compare or compute behind the checks of the operators."""
    tests: dict[str, Callable[..., Any]] = {**TESTS}  # type: ignore[dict-item]

    def comparison(name: str) -> Callable[[Any, Any], Any]:
        return lambda value, other: environment.compare(value, ((name, other),))

    words = {
        "==": "eq", "eq": "eq", "equalto": "eq", "!=": "ne", "ne": "ne", ">": "gt", "gt": "gt", "greaterthan": "gt",
        "ge": "gteq", ">=": "gteq", "<": "lt", "lt": "lt", "lessthan": "lt", "<=": "lteq", "le": "lteq", "in": "in",
    }  # fmt: skip
    for name, operator in words.items():
        tests[name] = comparison(operator)

    def remainder(value: Any, divisor: Any) -> Any:
        if not isinstance(value, int | float):
            raise TypeError(f"a value of type {type(value).__name__} is not a number")
        return value % divisor

    def cased(name: str) -> Callable[[Any], bool]:
        return lambda value: bool(getattr(environment.text(value), name)())

    tests["even"] = lambda value: remainder(value, 2) == 0
    tests["odd"] = lambda value: remainder(value, 2) == 1
    tests["divisibleby"] = lambda value, number: remainder(value, number) == 0
    tests["lower"], tests["upper"] = cased("islower"), cased("isupper")
    tests["callable"] = environment.is_function
    tests["escaped"] = lambda value: is_text(value) and hasattr(value, "__html__")
    return tests
