"""Call the `tokenizers` library so that none of its failures reaches people as a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from argosy.support.errors import ArgosyError
from argosy.support.text import one_line


@contextmanager
def library_errors(refuse: Callable[[str], ArgosyError]) -> Iterator[None]:
    """Turn what the library raises into `refuse(reason)`.

    It raises bare exceptions, and for a panic of its Rust code a PanicException, which is a BaseException.
    """
    try:
        yield
    except ArgosyError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise refuse(one_line(str(error).split("\n")[0] or type(error).__name__, 160)) from None
