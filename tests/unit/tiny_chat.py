"""Sizes, settings and a callback that the tests of conversations share."""

from __future__ import annotations

WINDOW, CHUNK = 128, 16
GREEDY = {"temperature": 0.0, "max_tokens": 12}


class Interrupting:
    """A callback that acts on its third call."""

    callback_interval = 1

    def __init__(self, action: object) -> None:
        self.action, self.calls, self.stopped = action, 0, 0

    def __call__(self, delta: str, stopped: bool) -> None:
        self.calls += 1
        self.stopped += stopped
        if self.calls == 3:
            self.action()  # type: ignore[operator]
