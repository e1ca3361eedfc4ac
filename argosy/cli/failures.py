"""How a command ends: a callable goes in, its exit code comes out, and whatever went wrong is on stderr in one form.

error: <one sentence>
hint: <the way out>
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import click

from argosy.cli.console import styled
from argosy.support import env
from argosy.support.errors import ArgosyError

INTERRUPTED = 130  # 128 + SIGINT, what shells report
BROKEN_PIPE = 141  # 128 + SIGPIPE
DEFECT = 70  # EX_SOFTWARE of sysexits.h


def guarded(action: Callable[[], object]) -> int:
    """Runs `action` and returns the exit code: that of `ctx.exit`, of the error, or 0."""
    try:
        code = action()
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except ArgosyError as error:
        code = report(error.message, error.hint, error.exit_code)
        if _debug_wanted():
            click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        return code
    except click.UsageError as error:
        return _usage(error)
    except click.ClickException as error:
        return report(_sentence(error.format_message()), None, error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away; whatever Python flushes at exit must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except MemoryError:
        return report("out of memory", "close other programs, or take a smaller model or scheme", 1)
    except OSError as error:
        return _system(error)
    except Exception as error:
        return _defect(error)


def report(message: str, hint: str | None, code: int) -> int:
    """Prints an error and returns `code`."""
    click.echo(styled("error: ", fg="red", bold=True) + message, err=True)
    if hint:
        click.echo(styled("hint: ", fg="cyan") + hint, err=True)
    return code


def _sentence(text: str) -> str:
    """Click's message in our form: lower case, values in backticks, no full stop."""
    text = re.sub(r"\((\S+)\)$", r"`\1`", text.strip().rstrip(".").replace("'", "`"))
    return text[:1].lower() + text[1:]


def _usage(error: click.UsageError) -> int:
    page = f"{error.ctx.command_path if error.ctx else 'argosy'} --help"
    message, hint = error.message, getattr(error, "hint", None)
    if isinstance(error, click.NoSuchOption):
        message = f"no such option `{error.option_name}`"
        if error.possibilities:
            hint = f"did you mean `{sorted(error.possibilities)[0]}`?"
    elif hint is None:
        message = _sentence(error.format_message())
    return report(message, f"{hint} See `{page}`." if hint else f"see `{page}`", error.exit_code)


def _system(error: OSError) -> int:
    """The operating system refused something that no code of ours expected: still one sentence."""
    if error.errno is None or not error.strerror:
        return _defect(error)
    where = f" `{error.filename}`" if error.filename is not None else ""
    return report(
        f"the system refused{where}: {error.strerror.lower()}", "check the path, its permissions and the disk", 1
    )


def _defect(error: Exception) -> int:
    """A fault of ours: one sentence, and the traceback in a file (or on stderr with ARGOSY_DEBUG=1)."""
    text = "".join(traceback.format_exception(error))
    first_line = (str(error).strip().splitlines() or [""])[0]
    message = f"this is a defect in argosy: {type(error).__name__}: {first_line}"
    if _debug_wanted():
        code = report(message, None, DEFECT)
        click.echo(text, err=True, nl=False)
        return code
    command_line = f"command: {' '.join(sys.argv)}\n"
    try:
        handle, path = tempfile.mkstemp(prefix="argosy-", suffix=".log")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(command_line + text)
    except OSError:
        click.echo(text, err=True, nl=False)
        return report(message, None, DEFECT)
    return report(message, f"the details are in {Path(path)}; please report it with that file", DEFECT)


def _debug_wanted() -> bool:
    """ARGOSY_DEBUG; a value that is not allowed has been refused before, or is what went wrong just now."""
    try:
        return env.DEBUG.get()
    except ArgosyError:
        return False
