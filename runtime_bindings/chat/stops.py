"""Text goes in piece by piece; it comes out up to the first stop string, and never a piece of one."""

from __future__ import annotations

from collections.abc import Iterable


class StopStrings:
    """Looks for any of several strings in a text that comes in pieces. What may be the beginning of one is held
    back."""

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def add(self, piece: str) -> str:
        """The text that is certain not to belong to a stop string. After `found` there is no more."""
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if places:
            place, _, self.found = min(places)
            self._held = ""
            return text[:place]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back and turned out to be text after all."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, short of the whole of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
