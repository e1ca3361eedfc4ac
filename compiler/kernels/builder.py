"""Build kernels as PrimFuncs from plain Python calls.

This is TVM's script builder without its parser: statements are the `T.*` calls made while a `Kernel` is entered. Calls
compose and cost nothing, whereas the parser takes seconds for these kernels because it walks the stack for every macro.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T


class Kernel:
    """A PrimFunc under construction. Declare its arguments in the order in which the caller passes them.

    A `private` function has no global symbol. `attributes` are added to those that every kernel carries.
    """

    def __init__(self, name: str, *, private: bool = False, attributes: Mapping[str, object] | None = None) -> None:
        self.name = name
        self.attributes = {"tirx.is_scheduled": True, "tirx.noalias": True, **(attributes or {})}
        self._builder = IRBuilder()
        self._frame = T.prim_func(s_tir=True, private=private)

    def __enter__(self) -> Kernel:
        self._builder.__enter__()
        self._frame.__enter__()
        T.func_name(self.name)
        T.func_attr(self.attributes)
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

    def tensor(self, name: str, shape: Sequence[int | tirx.Expr], dtype: str) -> tirx.Buffer:
        """Declare the next argument: a dense tensor that starts at its data pointer."""
        return T.match_buffer(T.arg(name, T.handle()), shape, dtype, layout=None)

    def indices(self, name: str, shape: Sequence[int | tirx.Expr]) -> tirx.Buffer:
        """Declare the next argument: an int32 view into a larger buffer."""
        offset = size(f"{name}_offset")
        return T.match_buffer(T.arg(name, T.handle()), shape, "int32", elem_offset=offset, layout=None)

    def scalar(self, name: str, dtype: str) -> tirx.Var:
        """Declare the next argument: a number."""
        return T.arg(name, tirx.Var(name, dtype))


def size(name: str, dtype: str = "int32") -> tirx.Var:
    """Create a symbolic size, known when the kernel is called."""
    return tirx.Var(name, dtype)


def view(tensor: tirx.Buffer, shape: Sequence[int | tirx.Expr], dtype: str | None = None) -> tirx.Buffer:
    """View the memory of a dense tensor in another shape, or as elements of another dtype."""
    return T.decl_buffer(shape, dtype or tensor.dtype, data=tensor.data, layout=None)


def flattened(tensor: tirx.Buffer) -> tirx.Buffer:
    """View the elements of a dense tensor as one dimension."""
    count = 1
    for extent in tensor.shape:
        count = count * extent
    return view(tensor, (count,))


def scratch(shape: int | tirx.Expr | tuple[int | tirx.Expr, ...], dtype: str) -> tirx.Buffer:
    """Allocate a buffer in the enclosing block, on the stack up to a constant 1 KB, else in a pool."""
    return T.sblock_alloc_buffer(shape if isinstance(shape, tuple) else (shape,), dtype, layout=None)


def parallel_for(count: tirx.Expr, serial_limit: int, body: Callable[[tirx.Var], None]) -> None:
    """Emit `body(i)` for all i below `count`, on all threads if there are more than `serial_limit`.

    Up to there, waking the other threads costs more than it saves.
    """
    with T.If(count <= serial_limit):
        with T.Then(), T.serial(count) as i:
            body(i)
        with T.Else(), T.parallel(count) as i:
            body(i)


@contextmanager
def block(name: str) -> Iterator[None]:
    """Open a scope for `scratch`: buffers in it exist once for each iteration of the loop around it."""
    with T.sblock(name):
        T.reads()
        T.writes()
        yield


@contextmanager
def when(condition: tirx.Expr) -> Iterator[None]:
    """Emit the statements inside only for invocations in which `condition` holds."""
    with T.If(condition), T.Then():
        yield
