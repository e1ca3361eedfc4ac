"""A stranger's Jinja template goes in; one that can neither reach nor exhaust this process comes out."""

from __future__ import annotations

import json
import re
import string
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Namespace
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

# A template that wants more than this is hostile or broken: real ones render in milliseconds.
MAX_TEMPLATE_CHARACTERS = 1 << 20
MAX_VALUE = 4 << 20
ITEM = 32  # what a list item, a number or an empty list counts, in characters
MAX_INTEGER_BITS = 4096
MAX_BLOCKS = 1_000_000
MAX_SECONDS = 5.0
MAX_NUMBER_IN_FORMAT = 1000

# Filters and functions that no chat template needs and that turn small input into large output.
REMOVED_FILTERS = ("center", "wordwrap", "urlize", "xmlattr", "pprint", "format", "random", "batch", "slice")
REMOVED_GLOBALS = ("lipsum", "cycler")


class LimitExceeded(SecurityError):
    """The template wants more time or memory than it may have."""


class TemplateRefusal(jinja2.TemplateError):
    """The template itself called raise_exception: the conversation is not one that the model was trained on."""


class _LimitedCode(CodeGenerator):
    """Compiles a call of `tick` into the beginning of every block, so that every turn of a loop and every call of a
    macro is counted, and sends `~` through the environment as the other operators are."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.tick()")
        super().blockvisit(nodes, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concatenate((")
        for argument in node.nodes:
            self.visit(argument, frame)
            self.write(", ")
        self.write("))")

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._bounded(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._bounded(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:
        if node.ctx == "load":
            self._bounded(super().visit_Tuple, node, frame)
        else:
            super().visit_Tuple(node, frame)

    def _bounded(self, visit: Callable[[Any, Frame], None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.bounded(")
        visit(node, frame)
        self.write(")")


class _Namespace(Namespace):
    """Namespaces may hold each other: printed in full they could be endless."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(Extension):
    """`{% generation %}...{% endgeneration %}` marks the model's turns for training; for running, it is just its
    content."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, set up as transformers sets it up, with bounds on time and on the size of values."""

    code_generator_class = _LimitedCode
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
        for name in REMOVED_FILTERS:
            self.filters.pop(name, None)
        for name in REMOVED_GLOBALS:
            self.globals.pop(name, None)
        self.filters["tojson"] = _tojson
        for name in ("indent", "replace", "join"):
            self.filters[name] = _checked_filter(self.filters[name], _FILTER_SIZES[name])
        self.filters["sum"] = _sum
        self.globals["dict"] = lambda *args, **kwargs: self.bounded(dict(*args, **kwargs))
        self.globals["namespace"] = _Namespace
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda format: datetime.now().strftime(format)
        self._blocks = 0
        self._deadline = 0.0

    def start(self) -> None:
        """Before a rendering: the budget is full again."""
        self._blocks = 0
        self._deadline = time.monotonic() + MAX_SECONDS

    def tick(self) -> None:
        """Called by the compiled template at the start of each block."""
        self._blocks += 1
        if self._blocks > MAX_BLOCKS or time.monotonic() > self._deadline:
            raise LimitExceeded("it runs for too long")

    def concatenate(self, parts: tuple[object, ...]) -> str:
        """The operator `~`."""
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]
        """What a macro or a `{% set %}` block has written."""
        return self.concatenate(tuple(parts))

    def bounded(self, value: Any) -> Any:
        """A list, tuple or table that the template has built: small in all, also where it holds the same thing many
        times."""
        _check_size(_weight(value))
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_size(_result_size(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`"...".format`, which the sandbox replaces by its own, checked before it runs."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            _check_size(_brace_format_size(str(value.__self__), (*args, *kwargs.values())))
            return inner(*args, **kwargs)

        return checked

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Methods of strings that turn small input into large output are checked before they run."""
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str):
            _check_size(_method_size(owner, name, args))
        return super().call(context, function, *args, **kwargs)


def _check_size(size: float) -> None:
    if size > MAX_VALUE:
        raise LimitExceeded("it builds a value that is too large")


def _result_size(operator: str, left: Any, right: Any) -> float:
    """How large the result of an operator may be, in characters, items, or bits over the limit for integers."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() + right.bit_length()
        if operator == "**":
            bits = left.bit_length() * abs(right)
        return 0 if bits <= MAX_INTEGER_BITS else float("inf")
    if operator == "+":
        return _weight(left) + _weight(right)
    if operator == "*":
        pairs = ((left, right), (right, left))
        return max((_weight(one) * other for one, other in pairs if isinstance(other, int)), default=0)
    if operator == "%" and isinstance(left, str):
        return _format_size(left) + _total(right if isinstance(right, tuple) else (right,)) * (left.count("%") + 1)
    return 0


def _weight(value: Any) -> int:
    """Characters, and `ITEM` for each other thing, in `value` and all that it holds, as often as it occurs; stops
    above the limit."""
    weight, stack = 0, [value]
    while stack and weight <= MAX_VALUE:
        each = stack.pop()
        weight += len(each) if isinstance(each, str) else ITEM
        if isinstance(each, Mapping):
            stack += each.keys()
            stack += each.values()
        elif isinstance(each, list | tuple):
            stack += each
    return weight


def _method_size(text: str, name: str, args: tuple[Any, ...]) -> float:
    if name in ("center", "ljust", "rjust", "zfill", "expandtabs"):
        width = args[0] if args and isinstance(args[0], int) else 8
        return len(text) * width if name == "expandtabs" else max(len(text), width)
    if name == "replace" and len(args) >= 2:
        return _replaced_size(text, args[0], args[1])
    if name == "join" and args:
        return _joined_size(args[0], text)
    return 0


def _brace_format_size(text: str, args: tuple[Any, ...]) -> float:
    if any("{" in (spec or "") for _, _, spec, _ in string.Formatter().parse(text)):
        raise LimitExceeded("it nests fields in a format")
    return _format_size(text) + _total(args) * (text.count("{") + 1)


def _format_size(text: str) -> float:
    """Infinite if the format holds a width or precision beyond reason, or one that comes from the arguments."""
    numbers = [int(number) for number in re.findall(r"\d{1,20}", text)]
    unbounded = max(numbers, default=0) > MAX_NUMBER_IN_FORMAT or re.search(r"%[^a-zA-Z%]*\*", text)
    return float("inf") if unbounded else len(text)


def _replaced_size(value: Any, old: Any, new: Any, *_: Any, **__: Any) -> float:
    text = str(value)
    return len(text) + (text.count(str(old)) if str(old) else len(text) + 1) * len(str(new))


def _joined_size(value: Any, separator: Any = "", *_: Any, **__: Any) -> float:
    items = list(value) if hasattr(value, "__len__") else []
    return _total(items) + len(str(separator)) * len(items)


def _indented_size(value: Any, width: Any = 4, *_: Any, **__: Any) -> float:
    step = width if isinstance(width, int) else len(str(width))
    return len(str(value)) + (str(value).count("\n") + 1) * step


def _total(values: Iterable[Any]) -> int:
    return sum(map(_weight, values))


_FILTER_SIZES: Mapping[str, Callable[..., float]] = {
    "indent": _indented_size,
    "replace": _replaced_size,
    "join": _joined_size,
}


def _checked_filter(inner: Callable[..., Any], size: Callable[..., float]) -> Callable[..., Any]:
    """A filter that refuses large results; jinja2 passes some of them the environment or context first."""
    takes_context = hasattr(inner, "jinja_pass_arg")

    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_size(size(*args[takes_context:], **{k: v for k, v in kwargs.items() if k in ("width",)}))
        if kwargs.keys() - {"width", "first", "blank", "attribute", "count", "d"}:
            raise SecurityError(f"it gives a filter the argument `{', '.join(kwargs)}`")
        return inner(*args, **kwargs)

    if takes_context:
        checked.jinja_pass_arg = inner.jinja_pass_arg  # type: ignore[attr-defined]
    return checked


def _sum(values: Iterable[Any], attribute: str | None = None, start: float = 0) -> Any:
    """Of numbers only: added lists could be endless."""
    if attribute is not None or not isinstance(start, int | float):
        raise SecurityError("it sums something other than numbers")
    return sum(values, start)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: no HTML escapes."""
    if indent is not None and not 0 <= int(indent) <= 16:
        raise LimitExceeded("it indents JSON by more than 16")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> None:
    raise TemplateRefusal(str(message))
