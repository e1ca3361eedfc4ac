"""Turn whatever ends a command into an exit code, and report errors on stderr in one form.

error: <one sentence>
hint: <how to mend it>
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from argosy.cli import console
from argosy.cli.words import OPTIONS
from argosy.support import env
from argosy.support.errors import ArgosyError
from argosy.support.text import one_line

INTERRUPTED = 130  # 128 + SIGINT, what shells report
BROKEN_PIPE = 141  # 128 + SIGPIPE
DEFECT = 70  # EX_SOFTWARE of sysexits.h


class ReaderGoneError(Exception):
    """A broken pipe, in a form that click does not take for a failure of its own."""


@contextlib.contextmanager
def broken_pipe_kept() -> Iterator[None]:
    """Raise ReaderGoneError for a BrokenPipeError of the block."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGoneError from error


def guarded(action: Callable[[], object]) -> int:
    """Run `action` and return its exit code: that of `ctx.exit`, that of the error, or 0."""
    try:
        return _reported(action)
    except BrokenPipeError:  # the reader of an error message is gone as well
        console.discard_output()
        return BROKEN_PIPE
    except OSError as error:  # stderr cannot be written to
        console.discard_output()
        return 1 if error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF) else DEFECT


def _reported(action: Callable[[], object]) -> int:
    """Run `action`, report what ends it, and return the exit code."""
    try:
        code = action()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ArgosyError as error:
        code = report(error.message, error.hint, error.exit_code)
        if _debug_wanted():
            console.say("".join(traceback.format_exception(error)).rstrip("\n"))
        return code
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return report(_sentence(error.format_message()), None, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        console.say("stopped")
        return INTERRUPTED
    except (BrokenPipeError, ReaderGoneError):
        console.discard_output()
        return BROKEN_PIPE
    except MemoryError:
        return report("out of memory", "close other programs, or use a smaller model or scheme", 1)
    except OSError as error:
        console.discard_output()
        return _system(error)
    except Exception as error:
        return _defect(error)


def report(message: str, hint: str | None, code: int) -> int:
    """Print an error and return `code`."""
    console.say(console.styled("error: ", fg="red", bold=True), console.one_visible_line(message))
    if hint:
        console.say(console.styled("hint: ", fg="cyan"), console.one_visible_line(hint))
    return code


def _sentence(text: str) -> str:
    """Rewrite a message of click's in our form: lower case, values in backticks, no full stop."""
    text = re.sub(r"\((\S+)\)$", r"`\1`", text.strip().rstrip(".").replace("'", "`"))
    return text[:1].lower() + text[1:]


def _usage(error: click.UsageError) -> int:
    page = f"{error.ctx.command_path if error.ctx else 'argosy'} --help"
    message, hint = error.message, getattr(error, "hint", None)
    if isinstance(error, click.NoSuchOption):
        message = f"no such option `{error.option_name}`"
        if error.option_name in OPTIONS:
            hint = f"that is `{OPTIONS[error.option_name]}` here"
        elif error.possibilities:
            hint = f"did you mean `{max(error.possibilities, key=partial(_likeness, error.option_name))}`?"
    elif hint is None:
        message = _sentence(error.format_message())
    see = f"see `{page}`"
    if hint:
        see = f"{hint} See `{page}`." if hint.endswith("?") else f"{hint}; {see}"
    return report(message, see, error.exit_code)


def _likeness(typed: str, option: str) -> float:
    return difflib.SequenceMatcher(None, typed, option).ratio()


def _system(error: OSError) -> int:
    """Report a refusal of the operating system that no code expected."""
    if error.errno is None or not error.strerror:
        return _defect(error)
    where = f" `{error.filename}`" if error.filename is not None else ""
    return report(
        f"the system refused{where}: {error.strerror.lower()}", "check the path, its permissions and the disk", 1
    )


def _defect(error: Exception) -> int:
    """Report a bug: one sentence, and the traceback in a file (or on stderr with ARGOSY_DEBUG=1)."""
    text = "".join(traceback.format_exception(error))
    message = f"this is a defect in argosy: {type(error).__name__}: {one_line(error, 200)}"
    if _debug_wanted():
        code = report(message, None, DEFECT)
        console.say(text.rstrip("\n"))
        return code
    command_line = f"command: {' '.join(sys.argv)}\n"
    try:
        handle, path = tempfile.mkstemp(prefix="argosy-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(command_line + text)
    except OSError:
        console.say(text.rstrip("\n"))
        return report(message, None, DEFECT)
    return report(message, f"the details are in {Path(path)}; please report it with that file", DEFECT)


def _debug_wanted() -> bool:
    """Return ARGOSY_DEBUG; an invalid value counts as unset, since it is reported as an error by itself."""
    try:
        return env.DEBUG.get()
    except ArgosyError:
        return False
