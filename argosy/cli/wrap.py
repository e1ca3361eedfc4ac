"""Break the lines of an answer between words, while it arrives in pieces."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

from rich.cells import cell_len

NARROWEST = 20  # columns below which breaking lines does more harm than good
_PARTS = re.compile(r"\n|[ \t]+|[^ \t\n]+")
_FENCE = "```"
_JOINER = "\u200d"  # binds emoji into one


def terminal_width() -> int:
    """Return the columns of the terminal of stdout as it is now, or 0 if they are not known."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        return 0


class WordWrap:
    """Inserts line breaks so that no word is cut at the edge of a terminal, whose width may change at any time.

    The last word is held back until something follows it. Wide characters, such as Chinese ones, take two columns, and
    lines may break between any two. Lines of code between ``` stay whole.
    """

    def __init__(self, width: Callable[[], int] = terminal_width) -> None:
        self._width = width
        self._column = 0
        self._spaces = ""
        self._word = ""
        self._wide = False  # whether what was printed last is a wide character
        self._line = ""  # how the current line of the text begins
        self._code = False

    def add(self, piece: str) -> str:
        """Return what can be printed now."""
        out: list[str] = []
        for part in _PARTS.findall(piece):
            if part == "\n":
                out.append(self.finish() + "\n")
                self._end_line()
            elif part.isspace():
                out.append(self._place())
                self._spaces += part
            else:
                out += map(self._character, part)
        return "".join(out)

    def finish(self) -> str:
        """Return what was held back."""
        rest = self._place() + self._spaces
        self._column += cell_len(self._spaces)
        self._spaces = ""
        return rest

    def _character(self, character: str) -> str:
        """Add a character that is no white space, and return what it completes."""
        if len(self._line) < len(_FENCE):
            self._line += character
        width = cell_len(character)
        joined = self._word.endswith(_JOINER)
        if width == 2 and not joined and self._word and self._word != _JOINER:
            out = self._place()
            self._word = character
            return out
        if width == 1 and self._word and cell_len(self._word[0]) == 2:
            out = self._place()
            self._word = character
            return out
        self._word += character
        if self._width() and cell_len(self._word) > self._width():  # no line holds it
            return self._place()
        return ""

    def _place(self) -> str:
        """Return the word that was held back, with the spaces or the line break before it."""
        if not self._word:
            return ""
        between, word = self._spaces, self._word
        self._spaces = self._word = ""
        width, size = self._width(), cell_len(word)
        apart = bool(between) or self._wide or cell_len(word[0]) == 2
        self._wide = cell_len(word[0]) == 2
        gap = sum(8 - self._column % 8 if space == "\t" else 1 for space in between)
        if apart and width >= NARROWEST and not self._code and self._column > 0 and self._column + gap + size > width:
            self._column = size
            return f"\n{word}"
        self._column += gap + size
        if width:
            self._column = (self._column - 1) % width + 1  # the terminal broke the line itself
        return between + word

    def _end_line(self) -> None:
        if self._line == _FENCE:
            self._code = not self._code
        self._line, self._column = "", 0
