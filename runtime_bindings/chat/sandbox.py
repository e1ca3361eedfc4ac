"""Run an untrusted Jinja template so that it can neither reach nor exhaust this process.

A template reaches values of these types only: text, numbers, booleans, None, lists, tuples, dictionaries, ranges, the
items of filters, namespaces, loops, macros, and the functions and methods that the sandbox lists. Every operation on
them is charged to a budget in proportion to what it reads and makes.
"""

from __future__ import annotations

import operator
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn

import jinja2
from jinja2 import Undefined, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import _GroupTuple
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Namespace
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Cycler, Joiner

from argosy.runtime_bindings.chat.sandbox_budget import (
    CALL,
    CONTAINERS,
    LIMITS,
    Budget,
    LimitExceeded,
    is_text,
    weight_of_input,
)
from argosy.runtime_bindings.chat.sandbox_filters import limited_filters, limited_tests
from argosy.runtime_bindings.chat.sandbox_methods import METHODS, Method, percent_format

__all__ = ["LimitExceeded", "LimitedEnvironment", "TemplateRefusal"]

_LOOP_FIELDS = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "previtem", "nextitem", "depth", "depth0",
})  # fmt: skip
# Attributes that are values, and methods that are called on what is no plain value.
_FIELDS: Mapping[type, frozenset[str]] = {
    LoopContext: _LOOP_FIELDS,
    Macro: frozenset({"name", "arguments", "catch_kwargs", "catch_varargs", "caller"}),
    Cycler: frozenset({"current"}),
    _GroupTuple: frozenset({"grouper", "list"}),
}
_ACTIONS: Mapping[type, frozenset[str]] = {
    LoopContext: frozenset({"cycle", "changed"}),
    Cycler: frozenset({"next", "reset"}),
}
_FORBIDDEN_NODES = (
    nodes.Block, nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport, nodes.EvalContextModifier,
)  # fmt: skip
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq, "ne": operator.ne, "gt": operator.gt, "gteq": operator.ge, "lt": operator.lt,
    "lteq": operator.le, "in": lambda one, others: one in others, "notin": lambda one, others: one not in others,
}  # fmt: skip
_ITERATED = "@iterated"  # a filter that no template can name


class TemplateRefusal(jinja2.TemplateError):
    """The template called raise_exception: the model was not trained on conversations like this one."""


class _LimitedCode(CodeGenerator):
    """Compiles a call of `tick` into the beginning of every block, which counts each turn of a loop and each call of a
    macro, and calls of the environment around whatever jinja2 writes as Python's own operators."""

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        self.writeline("environment.tick()")
        super().blockvisit(nodes, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self._call("concatenate", frame, *node.nodes)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        self.write("environment.compare(")
        self.visit(node.expr, frame)
        self.write(", (")
        for operand in node.ops:
            self.write(f"({operand.op!r}, ")
            self.visit(operand.expr, frame)
            self.write("), ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._call("part", frame, node.node, node.arg.start, node.arg.stop, node.arg.step)
        else:
            super().visit_Getitem(node, frame)

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

    def _call(self, name: str, frame: Frame, *arguments: nodes.Node | None) -> None:
        self.write(f"environment.{name}(")
        for argument in arguments:
            if argument is None:
                self.write("None")
            else:
                self.visit(argument, frame)
            self.write(", ")
        self.write(")")


class _Namespace(Namespace):
    """A namespace whose text is constant: namespaces may hold one another, so that a full text could be endless."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that an attribute may be named `self`
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_attribute(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_attribute(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<namespace>"


class _Function:
    """A function of the sandbox."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        return "<function>"


class _Generation(Extension):
    """The tag `{% generation %}...{% endgeneration %}`, which marks the model's turns for training; inference renders
    its content only."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Current(threading.local):
    """The budget of a thread's rendering."""

    budget = Budget()


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with the settings of transformers, and bounds on work and on the size of values.

    The bounds apply to each thread's rendering on its own.
    """

    code_generator_class = _LimitedCode
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], optimized=False,
            finalize=_written,
        )  # fmt: skip
        self._current = _Current()
        self.filters = {**limited_filters(self)}  # type: ignore[dict-item]
        self.filters[_ITERATED] = lambda value: self.budget.iterated(value)  # type: ignore[assignment]
        self.tests = {**limited_tests(self)}  # type: ignore[dict-item]
        functions: dict[str, Callable[..., Any]] = {
            "range": self._range, "dict": self._dict, "namespace": self._namespace, "cycler": Cycler,
            "joiner": Joiner, "raise_exception": _raise_exception, "strftime_now": _strftime_now,
        }  # fmt: skip
        self.globals = {name: _Function(function) for name, function in functions.items()}

    @property
    def budget(self) -> Budget:
        """The budget of this thread's rendering."""
        return self._current.budget

    def compile_limited(self, source: str) -> jinja2.Template:
        """Compile a template. Raises LimitExceeded if it is larger than any chat template."""
        if len(source) > LIMITS["sourceCharacters"]:
            raise LimitExceeded(f"it has {len(source)} characters, and {LIMITS['sourceCharacters']} are allowed")
        try:
            tree = self.parse(source)
            _check_tree(tree)
            for loop in tree.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, _ITERATED, [], [], None, None)
            code = self.compile(tree)
        except (RecursionError, MemoryError) as error:
            raise LimitExceeded("it nests too deep") from error
        return jinja2.Template.from_code(self, code, self.make_globals(None))

    def render_limited(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render within the bounds. Raises LimitExceeded beyond them, and whatever the template raises.

        `variables` are plain values.
        """
        self.start(weight_of_input(variables))
        parts: list[str] = []
        size = 0
        for part in template.generate(dict(variables)):
            size += len(part)
            self.budget.spend_characters(len(part))
            self.budget.check_size(size)
            parts.append(part)
        return "".join(parts)

    def start(self, input_weight: int = 0) -> None:
        """Give this thread a new budget for a rendering."""
        self._current.budget = Budget(input_weight)

    # -- what compiled templates call

    def tick(self) -> None:
        """Charge the budget for a block. Compiled templates call this at the start of each."""
        self.budget.spend(1)

    def text(self, value: Any) -> str:
        """Return a value as the template writes it."""
        if is_text(value):
            self.budget.spend_characters(len(value))
            return value  # type: ignore[no-any-return]
        self.check_writable(value)
        self.budget.size(value)
        return str(self.budget.admit(str(value)))

    def check_writable(self, value: Any) -> None:
        """Raise SecurityError for a value whose text would say nothing or something about this process."""
        if not (type(value) in CONTAINERS or isinstance(value, str | int | float | range | Undefined | None)):
            raise SecurityError(f"it writes a value of type {type(value).__name__}")

    def joined(self, texts: list[str], separator: str = "") -> str:
        """Join texts that are charged for."""
        self.budget.check_size(sum(map(len, texts)) + len(separator) * len(texts))
        return str(self.budget.admit(separator.join(texts)))

    def concatenate(self, *parts: object) -> str:
        """Join the operands of the operator `~`."""
        return self.joined([self.text(part) for part in parts])

    def concat(self, parts: Iterable[str]) -> str:  # type: ignore[override]
        """Join the output of a macro or of a `{% set %}` block."""
        return self.joined(list(parts))

    def bounded(self, value: Any) -> Any:
        """Return a list, tuple or dictionary that the template has built, if it is small with everything in it, counted
        as often as it occurs."""
        self.budget.weigh(value)
        return value

    def compare(self, value: Any, operations: tuple[tuple[str, Any], ...]) -> Any:
        """Compare a chain of values, such as `a < b <= c`."""
        result: Any = True
        for name, other in operations:
            self.budget.spend(2)
            if isinstance(value, str) and isinstance(other, str):
                self.budget.spend_characters(min(len(value), len(other)) if name in ("eq", "ne") else len(other))
            elif name in ("in", "notin"):
                self._check_search(value, other)
            elif type(value) in CONTAINERS and type(other) in CONTAINERS:
                self.budget.size(value)
                self.budget.size(other)
            result = _COMPARISONS[name](value, other)
            if not result:
                return result
            value = other
        return result

    def _check_search(self, value: Any, container: Any) -> None:
        if isinstance(value, list | tuple):
            self.budget.size(value)
            self.budget.size(container)
        elif not isinstance(container, dict | range):
            self.budget.iterated(container)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        self.budget.spend(4)
        if operator == "%" and is_text(left):
            return self.budget.admit(percent_format(self, left, right))
        for value in (left, right):
            if not isinstance(value, str | int | float | list | tuple | Undefined | None):
                raise TypeError(f"unsupported operand type for {operator}: {type(value).__name__}")
        if operator == "**" and isinstance(right, int) and abs(right) > 1024:
            raise LimitExceeded("it computes an integer that is too large")
        if operator == "+" and not isinstance(left, int | float):
            self.budget.check_size(self.budget.size(left) + self.budget.size(right))
        elif operator == "*":
            for one, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(one, str | list | tuple):
                    self.budget.check_size(self.budget.size(one) * times)
        return self.budget.admit(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return an attribute, or else an item, as jinja2 does for `value.name`."""
        return self._lookup(obj, attribute, item=True)

    def attribute(self, obj: Any, name: str) -> Any:
        """Return an attribute only, as jinja2 does for `value | attr("name")`."""
        return self._lookup(obj, name, item=False)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return an item, or else an attribute, as jinja2 does for `value["name"]`."""
        self.budget.spend(1)
        if isinstance(argument, tuple):
            self.budget.size(argument)  # to find one in a dictionary reads all of it
        if isinstance(obj, dict | str | list | tuple | range | Undefined):
            try:
                return obj[argument]
            except (TypeError, LookupError):
                pass
        if isinstance(argument, str):
            return self._lookup(obj, argument, item=False)
        return self.undefined(obj=obj, name=argument)

    def part(self, obj: Any, start: Any, stop: Any, step: Any) -> Any:
        """Return a slice of a text or list."""
        if not isinstance(obj, str | list | tuple | range | Undefined):
            raise TypeError(f"a value of type {type(obj).__name__} has no slices")
        return self.budget.admit(obj[slice(start, stop, step)])

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a macro, or a function or method of the sandbox."""
        budget = self.budget
        for name in ("_loop_vars", "_block_vars"):  # which jinja2 adds for functions that take a context
            kwargs.pop(name, None)
        budget.spend(CALL + len(args) + len(kwargs))
        if isinstance(function, Undefined | Method | _Function | Joiner):
            for argument in (*args, *kwargs.values()):
                budget.size(argument)
            return function(*args, **kwargs)
        if not isinstance(function, Macro | LoopContext):
            raise TypeError(f"a value of type {type(function).__name__} is not a function")
        if isinstance(function, LoopContext):
            args = (budget.iterated(args[0]), *args[1:]) if args else args
        budget.spend(CALL)
        budget.calls += 1
        try:
            if budget.calls > LIMITS["calls"]:
                raise LimitExceeded("it calls macros too deep in each other")
            return super().call(context, function, *args, **kwargs)
        finally:
            budget.calls -= 1

    def is_function(self, value: Any) -> bool:
        """Return whether a template can call a value."""
        return isinstance(value, Method | _Function | Joiner | Macro | LoopContext)

    # -- inside

    def _lookup(self, obj: Any, name: str, item: bool) -> Any:
        self.budget.spend(1)
        kind = type(obj)
        if name in METHODS.get(kind, ()):
            return Method(self, obj, name)
        if name in _FIELDS.get(kind, ()):
            return getattr(obj, name)
        if name in _ACTIONS.get(kind, ()):
            return _Function(getattr(obj, name))
        if kind is _Namespace and not name.startswith("_"):
            return getattr(obj, name, self.undefined(obj=obj, name=name))
        if isinstance(obj, Undefined) and not name.startswith("__"):
            return Undefined.__getattr__(obj, name)
        if hasattr(kind, name) and kind is not _Namespace:
            return self.unsafe_undefined(obj, name)
        if item and kind is dict and name in obj:
            return obj[name]
        return self.undefined(obj=obj, name=name)

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        if len(numbers) > LIMITS["range"]:
            raise LimitExceeded(f"its range has more than {LIMITS['range']} numbers")
        return numbers

    def _dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.bounded(dict(*map(self.budget.iterated, args), **kwargs))

    def _namespace(self, *args: Any, **kwargs: Any) -> _Namespace:
        return _Namespace(*map(self.budget.iterated, args), **kwargs)


@pass_context
def _written(context: Context, value: Any) -> str:
    """Return a value as the template writes it. Taking the context keeps jinja2 from computing constants when it
    compiles, beyond any budget."""
    environment: LimitedEnvironment = context.environment  # type: ignore[assignment]
    return environment.text(value)


def _check_tree(tree: nodes.Template) -> None:
    """Raise LimitExceeded for a tree that is too large or deep, SecurityError for statements that load other files."""
    count, stack = 0, [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > LIMITS["nodes"]:
            raise LimitExceeded("it is larger than any chat template")
        if depth > LIMITS["nesting"]:
            raise LimitExceeded("it nests too deep")
        if isinstance(node, _FORBIDDEN_NODES):
            raise SecurityError(f"it uses `{type(node).__name__.lower()}`, and a chat template stands alone")
        if isinstance(node, nodes.Const) and isinstance(node.value, int) and node.value > LIMITS["integer"]:
            raise LimitExceeded("it has an integer that is too large")
        stack.extend((child, depth + 1) for child in node.iter_child_nodes())  # type: ignore[misc]


def _check_attribute(name: object) -> None:
    if not isinstance(name, str) or name.startswith("_"):
        raise SecurityError("it gives a namespace an attribute with an underscore before its name")


def _raise_exception(message: object = "") -> NoReturn:
    raise TemplateRefusal(str(message)[:1000])


def _strftime_now(format: str) -> str:
    if len(format) > LIMITS["formatWidth"] or re.search(r"%[^a-zA-Z%]*\d", format):
        raise LimitExceeded("its format of the date is too wide")
    return datetime.now().strftime(format)


