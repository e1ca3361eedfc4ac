"""Notice that an answer says the same over and over."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 1500  # characters of a repeated passage
EVERY = 40  # characters between two looks at the text
MANY, FEW = 600, 400  # how many characters a passage fills before it is a loop: of up to `SHORT` characters, of more
SHORT = 20
TIMES = 4  # a passage of up to `LONG` characters; three times, if it is longer
LONG = 300
NUMBERED_TIMES = 6  # a passage that differs in its numbers only, such as the entries of a list
LETTERS = 25  # that such a passage has at least; rows of figures are no loop
_NUMBER = re.compile(r"[0-9]+")


class LoopDetector:
    """Watches a text that arrives in pieces, and finds out that it ends in the same passage again and again.

    A model that is caught in a loop does not get out of it by itself: what it has just written makes the same words the
    likeliest once more.
    """

    def __init__(self) -> None:
        self._tail = ""
        self._unseen = 0
        self.found: str | None = None

    def add(self, piece: str) -> bool:
        """Take the next piece of the text; return whether it loops. `found` is then the repeated passage."""
        self._tail = (self._tail + piece)[-(LONGEST * (TIMES - 1)) :]
        self._unseen += len(piece)
        if self.found is None and self._unseen >= EVERY:
            self._unseen = 0
            self.found = _repeated(self._tail)
        return self.found is not None


def _repeated(text: str) -> str | None:
    """Return the shortest passage that `text` ends with several times in a row, as often as it takes for a loop."""
    for period in _periods(text):
        filled = max(MANY if period <= SHORT else FEW, period * (TIMES if period <= LONG else TIMES - 1))
        if _repeats(text, period, filled):
            return text[len(text) - period :]
    plain = _NUMBER.sub("0", text)
    for period in _periods(plain):
        if _repeats(plain, period, period * NUMBERED_TIMES):
            passage = plain[len(plain) - period :]
            return passage if sum(map(str.isalpha, passage)) >= LETTERS else None
    return None


def _periods(text: str) -> Iterator[int]:
    """Yield how far back the end of `text` was written before, shortest way first: it may repeat itself from there."""
    end = text[len(text) - EVERY :]
    place = len(text) - len(end)
    while (place := text.rfind(end, 0, place + len(end) - 1)) >= len(text) - len(end) - LONGEST and place >= 0:
        yield len(text) - len(end) - place


def _repeats(text: str, period: int, length: int) -> bool:
    """Return whether the last `length` characters of `text` have this period."""
    start = len(text) - length
    return start >= 0 and text[start : len(text) - period] == text[start + period :]
