"""Compilers and linkers that run side by side: commands go in, what they printed comes out, and none is left behind."""

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
    """Runs commands, from several threads if need be. Leaving the block ends what still runs; then nothing begins."""

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
        """Runs a compiler or linker and returns what it printed.

        Raises CompileError with the first error that it printed.
        """
        with self._lock:
            if self._ended:
                raise CompileError(f"`{_tool(command)}` was not run: another command failed first")
            # A session of its own: compilers start others, and all of them are to end.
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
            said = [line.strip() for line in printed.splitlines() if line.strip()]
            why = next((line for line in said if "error" in line), said[-1] if said else "it printed nothing")
            raise CompileError(f"`{_tool(command)}` failed: {why}", f"see what it says with: {shlex.join(command)}")
        return printed


def _tool(command: Sequence[str]) -> str:
    return " ".join([Path(command[0]).name, command[1]])
