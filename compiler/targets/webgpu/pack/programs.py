"""Run compilers and linkers side by side, and leave none of them running."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from argosy.support.errors import CompileError


class Programs:
    """Runs commands, from any thread. Leaving the block kills those that still run and refuses new ones."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._ended = False

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._ended = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def execute(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> str:
        """Run a compiler or linker and return what it printed.

        Raises CompileError with the first error that it printed.
        """
        with self._lock:
            if self._ended:
                raise CompileError(f"`{_tool(command)}` was not run: another command failed first")
            # A session of its own: compilers start further processes, which must end with them.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env=environment, cwd=cwd, start_new_session=True,
            )  # fmt: skip
            self._running.add(process)
        output, errors = process.communicate()
        with self._lock:
            self._running.discard(process)
        printed = errors + output
        if process.returncode:
            lines = [line.strip() for line in printed.splitlines() if line.strip()]
            why = next((line for line in lines if "error" in line), lines[-1] if lines else "it printed nothing")
            raise CompileError(
                f"`{_tool(command)}` failed: {why}", f"to see all of its output, run: {shlex.join(command)}"
            )
        return printed


def _tool(command: Sequence[str]) -> str:
    """Return the program's name and its first argument, for messages."""
    return " ".join([Path(command[0]).name, command[1]])
