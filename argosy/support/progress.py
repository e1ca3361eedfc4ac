"""Show the progress of long work on stderr: bars on a terminal, elsewhere one line per stage.

    with open_progress() as progress:
        for done, item in enumerate(items):
            progress.report("convert weights", done, len(items))
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Literal, Protocol, TextIO

from argosy.support import env
from argosy.support.text import human_size, human_time

Unit = Literal["steps", "bytes"]


class Progress(Protocol):
    """Receives reports of long work. A new `stage` ends the one before; `total` is 0 if it is unknown."""

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        """Report that `done` of `total` units of `stage` are finished."""
        ...


class SilentProgress:
    """Says nothing."""

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        """Ignore the report."""


class LineProgress:
    """Prints one line when a stage ends: `convert weights  211 steps  1.3 s`."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._stage: str | None = None
        self._started = 0.0
        self._amount = ""

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        """Record the progress of `stage`; if it is new, print the line of the stage before."""
        if stage != self._stage:
            self.close()
            self._stage, self._started = stage, time.monotonic()
        amount = total or done
        self._amount = human_size(amount) if unit == "bytes" else f"{amount} step{'' if amount == 1 else 's'}"

    def close(self, finished: bool = True) -> None:
        """Print the line of the current stage."""
        if self._stage is not None:
            amount = self._amount if finished else "stopped"
            took = human_time(time.monotonic() - self._started)
            print(f"{self._stage:<28}  {amount:>10}  {took:>10}", file=self._out, flush=True)
        self._stage = None


class BarProgress:
    """Draws one bar per stage with rich; finished stages stay on the screen with their times."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        console = Console(file=out, no_color=not env.colour_wanted(), force_terminal=True)
        self._bars = Bars(
            TextColumn("{task.description:<28}"), BarColumn(bar_width=30), TextColumn("{task.fields[amount]:>20}"),
            TimeElapsedColumn(), console=console,
        )
        self._bars.start()
        self._stage: str | None = None

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        """Draw the progress of `stage`."""
        if stage != self._stage:
            self._end_stage()
            self._stage = stage
            self._task = self._bars.add_task(stage, total=None, amount="")
        show = human_size if unit == "bytes" else str
        amount = f"{show(done)} / {show(total)}" if total else show(done)
        self._bars.update(self._task, completed=done, total=total or None, amount=amount)

    def _end_stage(self) -> None:
        if self._stage is not None:
            end = max(1, self._bars.tasks[self._task].completed)
            self._bars.update(self._task, completed=end, total=end)

    def close(self, finished: bool = True) -> None:
        """Leave the bars on the screen and restore the cursor."""
        if finished:
            self._end_stage()
        self._bars.stop()


@contextlib.contextmanager
def open_progress(kind: str | None = None, out: TextIO | None = None) -> Iterator[Progress]:
    """Yield a Progress on `out` (default stderr); `kind` is auto, bars, lines or off (default ARGOSY_PROGRESS)."""
    stream = out or sys.stderr
    kind = kind or env.PROGRESS.get()
    if kind == "auto":
        kind = "bars" if stream.isatty() else "lines"
    if kind == "off":
        yield SilentProgress()
        return
    shown = BarProgress(stream) if kind == "bars" else LineProgress(stream)
    finished = False
    try:
        yield shown
        finished = True
    finally:
        shown.close(finished)
