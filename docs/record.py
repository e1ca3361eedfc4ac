"""Record a program at a terminal as an animated SVG, without scripts or fonts of its own.

    python docs/record.py --output docs/chat.svg --type "Who are you?" --type /bye -- argosy chat smollm2-135m

The program runs in a pseudo-terminal. Lines of `--type` are typed when its output ends with `--ready`. Text that the
program writes is placed where a terminal would place it, and appears when it did; pauses are cut to `PAUSE`.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

PAUSE = 1.2  # seconds that a pause has at most
QUIET = 0.8  # seconds between a prompt and the next line that is typed
KEY = 0.04  # seconds for one typed character
HOLD = 4.0  # seconds that the last picture stays
CELL = (8.4, 18.0)  # width and height of a character in pixels
COLOURS = {
    31: "#f7768e", 32: "#9ece6a", 33: "#e0af68", 34: "#7aa2f7", 35: "#bb9af7", 36: "#7dcfff", 90: "#6b7394",
}  # fmt: skip
_ESCAPE = re.compile(r"\x1b(?:\[([0-9;?]*)([A-Za-z])|\][^\x07]*\x07|[()][A-Z0-9]|[=>])")


@dataclass(slots=True)
class Run:
    """Characters of one line that were written at once, in one style. Overwritten ones disappear at `until`."""

    row: int
    column: int
    text: str
    style: tuple[str, ...]
    at: float
    until: float | None = None


@dataclass(slots=True)
class Screen:
    """What a terminal shows over time: enough of one for programs that write lines, colours and progress lines."""

    columns: int
    row: int = 0
    column: int = 0
    style: tuple[str, ...] = ()
    runs: list[Run] = field(default_factory=list)

    def write(self, text: str, at: float) -> None:
        """Take in what the program wrote at the time `at`."""
        start = 0
        for match in _ESCAPE.finditer(text):
            self._plain(text[start : match.start()], at)
            start = match.end()
            if match[2] == "m":
                self._colour(match[1])
            elif match[2] in ("K", "J"):
                self._clear(at, match[1])
        self._plain(text[start:], at)

    def _plain(self, text: str, at: float) -> None:
        for piece in re.findall(r"\r\n|\n|\r|\x08|[\x00-\x1f\x7f]|[^\x00-\x1f\x7f]+", text):
            if piece in ("\r\n", "\n"):
                self.row, self.column = self.row + 1, 0
            elif piece == "\r":
                self.column = 0
            elif piece == "\x08":
                self.column = max(self.column - 1, 0)
            elif piece.isprintable():
                while piece:
                    if self.column >= self.columns:
                        self.row, self.column = self.row + 1, 0
                    fits, piece = piece[: self.columns - self.column], piece[self.columns - self.column :]
                    self._replace(self.column, self.column + len(fits), at)
                    self.runs.append(Run(self.row, self.column, fits, self.style, at))
                    self.column += len(fits)

    def _replace(self, first: int, last: int, at: float) -> None:
        """End what is shown in the columns from `first` to `last` of this row."""
        for run in [run for run in self.runs if run.row == self.row and run.until is None]:
            end = run.column + len(run.text)
            if run.column < last and first < end:
                run.until = at
                if run.column < first:
                    self.runs.append(Run(run.row, run.column, run.text[: first - run.column], run.style, at))
                if last < end:
                    self.runs.append(Run(run.row, last, run.text[last - run.column :], run.style, at))

    def _clear(self, at: float, how: str) -> None:
        self._replace(0 if how in ("1", "2") else self.column, self.column if how == "1" else self.columns, at)

    def _colour(self, codes: str) -> None:
        for code in map(int, (codes or "0").split(";")) if codes.replace(";", "").isdigit() or not codes else ():
            if code == 0:
                self.style = ()
            elif code in (1, 2):
                self.style = (*self.style, {1: "font-weight:bold", 2: "opacity:.6"}[code])
            elif code in COLOURS:
                self.style = (*self.style, f"fill:{COLOURS[code]}")
            elif code == 39:
                self.style = tuple(style for style in self.style if not style.startswith("fill"))


def run(
    command: Sequence[str], typed: Sequence[str], ready: str, size: tuple[int, int], limit: float
) -> Iterator[tuple[float, str]]:
    """Run `command` in a pseudo-terminal and yield what appears, with the time since the start.

    Each of the lines `typed` is typed once the output ends with `ready`. `size` is the terminal's columns and rows.
    """
    import fcntl
    import termios

    columns, rows = size
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns), LINES=str(rows), INPUTRC="/dev/null")
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    started = last = time.monotonic()
    waiting, keys = list(typed), ""
    pending, tail = b"", ""
    while time.monotonic() - started < limit:
        ready_to_read, _, _ = select.select([terminal], [], [], KEY)
        now = time.monotonic()
        if ready_to_read:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # the program has ended
                break
            if not data:
                break
            text = (pending + data).decode("utf-8", "ignore")
            pending = (pending + data)[len(text.encode()) :]
            last = now
            tail = (tail + _ESCAPE.sub("", text))[-200:]
            yield now - started, text
        elif keys:
            os.write(terminal, keys[0].encode())
            keys, tail = keys[1:], ""
        elif waiting and tail.endswith(ready) and now - last > QUIET:
            keys = waiting.pop(0) + "\r"
    os.close(terminal)
    os.waitpid(child, 0)


def shortened(events: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Cut pauses to `PAUSE`."""
    found, clock, before = [], 0.0, 0.0
    for at, text in events:
        clock += min(at - before, PAUSE)
        before = at
        found.append((clock, text))
    return found


def draw(screen: Screen, prompt: str, rows: int) -> str:
    """Return the SVG; where the recording has more than `rows` lines, it scrolls as a terminal does."""
    width, height = screen.columns * CELL[0] + 32, rows * CELL[1] + 48
    end = max((run.at for run in screen.runs), default=0.0) + HOLD
    scroll = _scroll(screen, rows, end)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(prompt)}">',
        "<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#c0caf5;white-space:pre}"
        "@keyframes on{from{visibility:hidden}to{visibility:visible}}"
        "@keyframes off{from{visibility:visible}to{visibility:hidden}}",
        *scroll,
        "</style>",
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#1a1b26"/>',
        '<circle cx="18" cy="16" r="5" fill="#f7768e"/><circle cx="34" cy="16" r="5" fill="#e0af68"/>'
        '<circle cx="50" cy="16" r="5" fill="#9ece6a"/>',
        f'<svg x="16" y="32" width="{width - 32:.0f}" height="{rows * CELL[1]:.0f}"><g class="all">',
    ]
    for one in screen.runs:
        if one.text.strip() and one.until != one.at:
            lines.append(_text(one))
    return "\n".join([*lines, "</g></svg></svg>", ""])


def _text(run: Run) -> str:
    animation = f"animation:on 1ms {run.at:.2f}s backwards"
    if run.until is not None:
        animation += f",off 1ms {run.until:.2f}s forwards"
    style = ";".join((*run.style, animation))
    x, y = run.column * CELL[0], (run.row + 0.8) * CELL[1]
    length = len(run.text) * CELL[0]
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}" xml:space="preserve" style="{style}">'
        f"{escape(run.text, quote=False)}</text>"
    )


def _scroll(screen: Screen, rows: int, end: float) -> list[str]:
    """Return the animation that moves the text up as lines are added below the last row."""
    steps, top = [(0.0, 0)], 0
    for one in sorted(screen.runs, key=lambda run: run.at):
        if one.row - rows + 1 > top:
            top = one.row - rows + 1
            steps.append((one.at, top))
    if top == 0:
        return []
    frames = "".join(f"{at / end * 100:.2f}%{{transform:translateY({-row * CELL[1]:.0f}px)}}" for at, row in steps)
    return [f"@keyframes scroll{{{frames}}}.all{{animation:scroll {end:.2f}s steps(1,end) forwards}}"]


def main() -> None:
    """Record the command after `--`."""
    parser = argparse.ArgumentParser(description="Record a program at a terminal as an animated SVG.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--type", dest="typed", action="append", default=[], help="a line to type; may be repeated")
    parser.add_argument("--ready", default="> ", help="what the program's output ends with when it waits for a line")
    parser.add_argument("--prompt", help="the command line to show at the top, by default the command")
    parser.add_argument("--columns", type=int, default=88)
    parser.add_argument("--rows", type=int, default=22)
    parser.add_argument("--limit", type=float, default=180, help="seconds after which the recording ends")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    prompt = f"$ {arguments.prompt or ' '.join(arguments.command)}"
    screen = Screen(arguments.columns)
    screen.write("\x1b[32m$\x1b[0m ", 0)
    for index, character in enumerate(prompt[2:]):
        screen.write(character, 0.5 + KEY * index)
    begin = 0.5 + KEY * len(prompt)
    screen.write("\n", begin)
    size = arguments.columns, arguments.rows
    events = list(run(arguments.command, arguments.typed, arguments.ready, size, arguments.limit))
    for at, text in shortened(events):
        screen.write(text, begin + at)
    arguments.output.write_text(draw(screen, prompt, arguments.rows), encoding="utf-8")
    print(f"{arguments.output}: {len(screen.runs)} pieces, {arguments.output.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main()
