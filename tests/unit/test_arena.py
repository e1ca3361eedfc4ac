"""Tensors of an arena are aligned, disjoint, zero, and outlive the arena."""

import numpy as np
import pytest

from argosy.runtime_bindings.engine.arena import ALIGNMENT, HUGE_PAGE, Arena, padded


def test_tensors_lie_one_after_another() -> None:
    places = [((3, 5), "uint8"), ((7,), "float16"), ((2, 2), "float32"), ((1,), "uint32")]
    arena = Arena(sum(padded(*place) for place in places))
    arrays = [np.from_dlpack(arena.empty(*place)) for place in places]
    del arena
    for (shape, dtype), array, value in zip(places, arrays, range(1, 5), strict=True):
        assert (array.shape, str(array.dtype)) == (shape, dtype)
        assert array.ctypes.data % ALIGNMENT == 0 and not array.any()
        array[...] = value
    assert [set(array.flat) for array in arrays] == [{1}, {2}, {3}, {4}]
    assert arrays[0].ctypes.data % HUGE_PAGE == 0


def test_more_than_asked_for() -> None:
    arena = Arena(64)
    with pytest.raises(AssertionError, match="more tensors"):
        arena.empty((HUGE_PAGE + 65,), "uint8")
