"""Cut a streamed text before the first stop string."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator


class StopStrings:
    """Looks for several strings in a text that arrives in pieces.

    Text that may be the beginning of one is held back until that is decided. The text has hidden parts, the names of
    special tokens, which are never returned. A stop string that contains one of the `special` names is looked for in
    the text with its hidden parts, another one in the text without them.
    """

    def __init__(self, stops: Iterable[str], special: Collection[str] = ()) -> None:
        stops = tuple(stops)
        self._marked = tuple(stop for stop in stops if any(name in stop for name in special))
        self._plain = tuple(stop for stop in stops if stop not in self._marked)
        self._held = _Text()
        self.found: str | None = None

    def add(self, piece: str, hidden: str = "", stop: str | None = None) -> str:
        """Append `piece` and then `hidden`, and return the text that is certain not to belong to a stop string.

        `stop` says that the piece is the token of a whole stop string, which ends the text also where it is decoded to
        less than that. Returns nothing once a stop string was `found`.
        """
        if self.found is not None:
            return ""
        text = self._held.then(piece, hidden if self._marked else "")
        places = [(text.shown.find(stop), -len(stop), stop) for stop in self._plain if stop in text.shown]
        for marked in self._marked:
            if marked in text.full:
                places.append((text.shown_before(text.full.find(marked)), -len(marked), marked))
        if places:
            place, _, self.found = min(places)
            self._held = _Text()
            return text.shown[:place]
        if stop is not None:
            self.found = stop
            return self.finish()
        keep = max((_overlap(text.shown, stop) for stop in self._plain), default=0)
        keep_full = max((_overlap(text.full, stop) for stop in self._marked), default=0)
        place = len(text.full) - keep_full
        end = min(len(text.shown) - keep, text.shown_before(place))
        while text.shown_before(place) > end:
            place -= 1
        self._held = text.after(place)
        return text.shown[:end]

    def finish(self) -> str:
        """Return the text that was held back, at the end of the answer."""
        text, self._held = self._held.shown, _Text()
        return text


class _Text:
    """A text with hidden parts: `full` with them, `shown` without."""

    def __init__(self, full: str = "", marks: str = "") -> None:
        self.full = full
        self._marks = marks  # "1" for a shown character, "0" for a hidden one
        self.shown = "".join(_select(full, marks)) if "0" in marks else full

    def then(self, shown: str, hidden: str) -> _Text:
        """Return this text with a shown part and a hidden part after it."""
        return _Text(self.full + shown + hidden, self._marks + "1" * len(shown) + "0" * len(hidden))

    def shown_before(self, place: int) -> int:
        """Count the shown characters before a place in `full`."""
        return self._marks.count("1", 0, place)

    def after(self, place: int) -> _Text:
        """Return the text from a place in `full`."""
        return _Text(self.full[place:], self._marks[place:])


def _select(text: str, marks: str) -> Iterator[str]:
    return (character for character, mark in zip(text, marks, strict=True) if mark == "1")


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of `text` that is a proper prefix of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
