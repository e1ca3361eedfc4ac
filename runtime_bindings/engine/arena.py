"""Lay tensors one after another in huge pages, where the system has them.

A decode step reads every weight once. In pages of 4 KiB the processor looks up twenty thousand addresses to do so; in
pages of 2 MiB, forty.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from math import prod
from typing import Any

import numpy as np

from argosy.runtime_bindings.engine.tvm_runtime import load_tvm

ALIGNMENT = 64  # of each tensor, in bytes
HUGE_PAGE = 2 * 2**20


def padded(shape: tuple[int, ...], dtype: str) -> int:
    """Return the bytes that a tensor takes in an arena."""
    return -(-prod(shape) * np.dtype(dtype).itemsize // ALIGNMENT) * ALIGNMENT


class Arena:
    """Memory for tensors of at most `nbytes` in all. It lives as long as one of them, and pages that are never written
    to take no memory."""

    def __init__(self, nbytes: int) -> None:
        memory = mmap.mmap(-1, nbytes + HUGE_PAGE)
        with suppress(AttributeError, OSError):  # not Linux, or a kernel without huge pages
            memory.madvise(mmap.MADV_HUGEPAGE)
        self._bytes = np.frombuffer(memory, np.uint8)
        self._used = -self._bytes.ctypes.data % HUGE_PAGE

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Return a TVM tensor of zeros."""
        start, count = self._used, prod(shape) * np.dtype(dtype).itemsize
        self._used += padded(shape, dtype)
        assert self._used <= len(self._bytes), "more tensors than the arena was made for"
        return load_tvm().runtime.from_dlpack(self._bytes[start : start + count].view(dtype).reshape(shape))
