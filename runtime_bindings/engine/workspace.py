"""Reuse arrays for intermediate results from one token to the next."""

from __future__ import annotations

import numpy as np


class Workspace:
    """Arrays by name: the kernel takes longer to hand out a fresh megabyte than `exp` takes to fill it.

    Samplers that take turns may share one.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def floats(self, name: str, size: int) -> np.ndarray:
        """Return a (size,) float32 array with anything in it, in the memory last returned for `name`."""
        return self._take(name, size, np.float32)

    def mask(self, name: str, size: int) -> np.ndarray:
        """Return a (size,) bool array with anything in it, in the memory last returned for `name`."""
        return self._take(name, size, np.bool_)

    def _take(self, name: str, size: int, dtype: type[np.generic]) -> np.ndarray:
        held = self._arrays.get(name)
        if held is None or len(held) < size:
            held = self._arrays[name] = np.empty(size, dtype)
        return held[:size]
