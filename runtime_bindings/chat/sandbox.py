"""Run an untrusted Jinja template so that it can neither reach nor exhaust this process."""

from __future__ import annotations

import json
import re
import string
import threading
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

# Chat templates render in milliseconds and write some kilobytes; one that exceeds these bounds is hostile or broken.
MAX_TEMPLATE_CHARACTERS = 1 << 20
MAX_VALUE = 4 << 20  # characters
ITEM = 32  # weight of a number, or of a list without its items, in characters
MAX_INTEGER_BITS = 4096
MAX_BLOCKS = 1_000_000
MAX_SECONDS = 5.0
MAX_NUMBER_IN_FORMAT = 1000

# Filters and functions that no chat template needs, and that make large outputs of small inputs.
REMOVED_FILTERS = ("center", "wordwrap", "urlize", "xmlattr", "pprint", "format", "random", "batch", "slice")
REMOVED_GLOBALS = ("lipsum", "cycler")


class LimitExceeded(SecurityError):
    """The template exceeds its bounds of time or memory."""


class TemplateRefusal(jinja2.TemplateError):
    """The template called raise_exception: the model was not trained on conversations like this one."""


class _LimitedCode(CodeGenerator):
    """Compiles a call of `tick` into the beginning of every block, which counts each turn of a loop and each call of a
    macro, and calls of the environment's checks around `~`, lists, tuples and dictionaries."""

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
    """A namespace whose text is constant: namespaces may hold one another, so that a full text could be endless."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(Extension):
    """The tag `{% generation %}...{% endgeneration %}`, which marks the model's turns for training; inference renders
    its content only."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Budget(threading.local):
    """The blocks and the time that a thread's rendering has left."""

    blocks = 0
    deadline = 0.0


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with the settings of transformers, and bounds on time and on the size of values.

    The bounds apply to each thread's rendering on its own.
    """

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
        self._budget = _Budget()

    def compile_limited(self, source: str) -> jinja2.Template:
        """Compile a template. Raises LimitExceeded if it is longer than any chat template."""
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise LimitExceeded(f"it has {len(source)} characters, more than {MAX_TEMPLATE_CHARACTERS}")
        return self.from_string(source)

    def render_limited(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render within the bounds. Raises LimitExceeded beyond them, and whatever the template raises."""
        self.start()
        parts: list[str] = []
        size = 0
        for part in template.generate(dict(variables)):
            size += len(part)
            if size > MAX_VALUE:
                raise LimitExceeded("it writes too much")
            parts.append(part)
        return "".join(parts)

    def start(self) -> None:
        """Refill this thread's budget, before a rendering."""
        self._budget.blocks = MAX_BLOCKS
        self._budget.deadline = time.monotonic() + MAX_SECONDS

    def tick(self) -> None:
        """Charge the budget for a block. Compiled templates call this at the start of each."""
        self._budget.blocks -= 1
        if self._budget.blocks < 0 or time.monotonic() > self._budget.deadline:
            raise LimitExceeded("it runs for too long")

    def concatenate(self, parts: tuple[object, ...]) -> str:
        """Join the operands of the operator `~`."""
        texts = [str(part) for part in parts]
        _check_size(sum(map(len, texts)))
        return "".join(texts)

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]
        """Join the output of a macro or of a `{% set %}` block."""
        return self.concatenate(tuple(parts))

    def bounded(self, value: Any) -> Any:
        """Return a list, tuple or dictionary that the template has built, if it is small with everything in it, counted
        as often as it occurs."""
        _check_size(_weight(value))
        return value

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        _check_size(_result_size(operator, left, right))
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return the sandbox's own `str.format` for a bound one, with a check of the size of its result."""
        inner = super().wrap_str_format(value)
        if inner is None:
            return None

        def checked(*args: Any, **kwargs: Any) -> str:
            _check_size(_brace_format_size(str(value.__self__), (*args, *kwargs.values())))
            return inner(*args, **kwargs)

        return checked

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function, after a check of the result's size for methods of strings that could make a large one."""
        owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
        if isinstance(owner, str):
            _check_size(_method_size(owner, name, args))
        return super().call(context, function, *args, **kwargs)


def _check_size(size: float) -> None:
    if size > MAX_VALUE:
        raise LimitExceeded("it builds a value that is too large")


def _result_size(operator: str, left: Any, right: Any) -> float:
    """Return an upper bound of an operator's result, in characters; infinity for integers of too many bits."""
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
    """Count the characters in `value` and in all that it holds, as often as it occurs, with `ITEM` for whatever is not
    text. Stops above the limit."""
    weight, stack = 0, [value]
    while stack and weight <= MAX_VALUE:
        item = stack.pop()
        weight += len(item) if isinstance(item, str) else ITEM
        if isinstance(item, Mapping):
            stack += item.keys()
            stack += item.values()
        elif isinstance(item, list | tuple):
            stack += item
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
    """Return the length of a format, or infinity if it has a huge width or precision, or takes one as an argument."""
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
    """Wrap a filter to refuse large results. Some take jinja2's environment or context as their first argument."""
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
    """Sum numbers only: a sum of lists could be endless."""
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
    """Write JSON without HTML escapes, as transformers does."""
    if indent is not None and not 0 <= int(indent) <= 16:
        raise LimitExceeded("it indents JSON by more than 16")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> None:
    raise TemplateRefusal(str(message))
