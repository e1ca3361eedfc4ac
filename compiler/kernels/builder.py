"""Building kernels: argument declarations and TIR statements made by plain Python calls go in, a PrimFunc comes out.

This is TVM's script builder without its parser: the statements are the `T.*` calls, made while a `Kernel` is entered.
Calls compose, and cost nothing; the parser takes seconds for these kernels, because it walks the stack for every macro.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T


class Kernel:
    """A PrimFunc under construction. Arguments are declared in the order in which the caller passes them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._builder = IRBuilder()
        self._frame = T.prim_func(s_tir=True)

    def __enter__(self) -> Kernel:
        self._builder.__enter__()
        self._frame.__enter__()
        T.func_name(self.name)
        T.func_attr({"tirx.is_scheduled": True, "tirx.noalias": True})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._frame.__exit__(kind, error, trace)
        self._builder.__exit__(kind, error, trace)

    @property
    def function(self) -> tirx.PrimFunc:
        """The finished function."""
        return self._builder.get()

    def tensor(self, name: str, shape: tuple[int | tirx.Expr, ...], dtype: str) -> tirx.Buffer:
        """The next argument: a dense tensor that starts where its data pointer says."""
        return T.match_buffer(T.arg(name, T.handle()), shape, dtype, layout=None)

    def indices(self, name: str, shape: tuple[int | tirx.Expr, ...]) -> tirx.Buffer:
        """The next argument: int32, a view into a larger buffer."""
        offset = size(f"{name}_offset")
        return T.match_buffer(T.arg(name, T.handle()), shape, "int32", elem_offset=offset, layout=None)

    def scalar(self, name: str, dtype: str) -> tirx.Var:
        """The next argument: a number."""
        return T.arg(name, tirx.Var(name, dtype))


def size(name: str) -> tirx.Var:
    """A symbolic size, known when the kernel is called."""
    return tirx.Var(name, "int32")


def flattened(pages: tirx.Buffer) -> tirx.Buffer:
    """The same elements as one dimension."""
    count = 1
    for extent in pages.shape:
        count = count * extent
    return T.decl_buffer((count,), pages.dtype, data=pages.data, layout=None)


def scratch(shape: int | tirx.Expr | tuple[int | tirx.Expr, ...], dtype: str) -> tirx.Buffer:
    """A buffer of the enclosing block: on the stack if its size is constant and at most 1 KB, else from a pool."""
    return T.sblock_alloc_buffer(shape if isinstance(shape, tuple) else (shape,), dtype, layout=None)


def each(count: tirx.Expr, few: int, body: Callable[[tirx.Var], None]) -> None:
    """`body(i)` for each i below `count`, shared out to the threads unless so `few` are not worth waking them."""
    with T.If(count <= few):
        with T.Then(), T.serial(count) as i:
            body(i)
        with T.Else(), T.parallel(count) as i:
            body(i)


@contextmanager
def block(name: str) -> Iterator[None]:
    """A scope of its own for `scratch`: one for each iteration of the loop around it."""
    with T.sblock(name):
        T.reads()
        T.writes()
        yield


@contextmanager
def when(condition: tirx.Expr) -> Iterator[None]:
    """Statements that run only where `condition` holds."""
    with T.If(condition), T.Then():
        yield
