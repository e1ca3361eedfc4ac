"""Run Python programs: measure their time and memory, or let them answer requests.

A process that imports this module must stay small: on Linux a child's peak memory includes what its parent held when
it forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Any

from argosy.support.errors import ArgosyError


@dataclass(frozen=True)
class Finished:
    """A process that ended with exit code 0; seconds since its start, and its peak resident memory."""

    stdout: str
    first_byte_seconds: float
    seconds: float
    peak_bytes: int


def run_measured(arguments: Sequence[object]) -> Finished:
    """Run Python with `arguments` to its end. Raises ArgosyError unless it exits with 0."""
    command = _command(arguments)
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        assert process.stdout is not None
        with process.stdout as out:
            output = os.read(out.fileno(), 1)
            first = time.perf_counter() - started
            output += out.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise _failed(command, process.returncode, errors)
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Finished(output.decode(), first, seconds, peak)


def run_json(arguments: Sequence[object]) -> dict[str, Any]:
    """Run Python with `arguments`; return the JSON object that is the last line of its output."""
    value = json.loads(run_measured(arguments).stdout.splitlines()[-1])
    assert isinstance(value, dict), value
    return value


class Server:
    """A process that answers JSON lines with JSON lines, after one with the facts of the loaded engine.

    Other lines are printed by libraries and ignored, as is its stderr unless it fails.
    """

    def __init__(self, arguments: Sequence[object]) -> None:
        self._command = _command(arguments)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )

    def __enter__(self) -> Server:
        try:
            self.ready = self._answer()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send `request` and return the answer. Raises ArgosyError if the process has died."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: reading its answer raises the error
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                value = json.loads(line)
                assert isinstance(value, dict), value
                return value
        raise _failed(self._command, self._process.wait(), self._errors)


def _command(arguments: Sequence[object]) -> list[str]:
    return [sys.executable, *(str(argument) for argument in arguments)]


def _failed(command: Sequence[str], code: int, errors: IO[bytes]) -> ArgosyError:
    """Make the error: the program, and the last line of its stderr; a hint of ours remains the hint."""
    errors.seek(0)
    printed = [line.strip() for line in errors.read().decode(errors="replace").splitlines() if line.strip()]
    hint = printed.pop().removeprefix("hint: ") if printed and printed[-1].startswith("hint: ") else None
    words = f": {printed[-1].removeprefix('error: ')}" if printed else ""
    return ArgosyError(f"`python {' '.join(command[1:3])}` ended with exit code {code}{words}", hint)
