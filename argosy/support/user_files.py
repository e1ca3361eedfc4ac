"""Find where this user's data lies: the artefacts that are built, and what `argosy chat` remembers."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path

from argosy.support import env
from argosy.support.errors import UsageError


def data_directory() -> Path:
    """Return the directory of this user's data, which may not exist yet.

    It is ARGOSY_HOME, else `argosy` in the place that the operating system has for such data: XDG_DATA_HOME or
    `~/.local/share`, `~/Library/Application Support` on macOS, LOCALAPPDATA on Windows. Raises UsageError if this user
    has no home directory.
    """
    chosen = env.HOME.get()
    if chosen is not None:
        return absolute(chosen)
    return _user_data() / "argosy"


def absolute(path: Path) -> Path:
    """Return `path` as an absolute one, with `~` expanded and symbolic links kept."""
    try:
        return Path(os.path.abspath(path.expanduser()))
    except RuntimeError:  # `~` of nobody
        return Path(os.path.abspath(path))


def _user_data() -> Path:
    if sys.platform == "win32":
        return _named("LOCALAPPDATA") or _home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support"
    return _named("XDG_DATA_HOME") or _home() / ".local" / "share"


def _named(variable: str) -> Path | None:
    """Return the directory in an environment variable; a relative one does not count, as the XDG specification says."""
    text = os.environ.get(variable, "")
    return Path(text) if os.path.isabs(text) else None


def _home() -> Path:
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if not home.is_absolute():
        raise UsageError("this user has no home directory to keep models in", "set ARGOSY_HOME to a directory")
    return home


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only this user can read, all of it or nothing. Makes its directory, for this user alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
