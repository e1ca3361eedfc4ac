"""The length of a vocabulary goes in; arrays for intermediate results come out, the same ones for every token."""

from __future__ import annotations

import numpy as np


class Workspace:
    """Arrays that are kept between tokens: the kernel takes longer to hand out a fresh megabyte than `exp` to fill it.

    Whoever samples one row after the other may share one.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def floats(self, name: str, size: int) -> np.ndarray:
        """(size,) float32 with anything in it; what was last returned for `name` is overwritten."""
        return self._take(name, size, np.float32)

    def mask(self, name: str, size: int) -> np.ndarray:
        """(size,) bool with anything in it; what was last returned for `name` is overwritten."""
        return self._take(name, size, np.bool_)

    def _take(self, name: str, size: int, dtype: type[np.generic]) -> np.ndarray:
        held = self._arrays.get(name)
        if held is None or len(held) < size:
            held = self._arrays[name] = np.empty(size, dtype)
        return held[:size]
