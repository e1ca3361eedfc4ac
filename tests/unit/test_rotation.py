"""The angles of rotary positions: whole turns are taken off, and nothing else changes."""

from __future__ import annotations

import math

import numpy as np
import tvm
from tvm import te

from argosy.model_defs.layers import within_half_a_turn

ANGLES = 4096
TOLERANCE = 4e-6  # float32 has angles as large as these in steps of up to 8e-3


def test_whole_turns_are_taken_off() -> None:
    # Up to the last position of a long context, at the fastest frequency, which is 1.
    random = np.random.default_rng(0)
    given = np.concatenate([random.uniform(0, 131072, ANGLES - 4), [0, math.pi, 3 * math.pi, 131071]]).astype("float32")
    angles = te.placeholder((ANGLES,), "float32", "angles")
    rest = te.compute((ANGLES,), lambda i: within_half_a_turn(angles[i]), "rest")
    function = tvm.compile(te.create_prim_func([angles, rest]), target="llvm")
    result = tvm.runtime.empty((ANGLES,), "float32")
    function(tvm.runtime.tensor(given), result)
    left = result.numpy()
    assert np.abs(left).max() < math.pi + 1e-3
    exact = given.astype("float64")
    assert np.abs(np.cos(left.astype("float64")) - np.cos(exact)).max() < TOLERANCE
    assert np.abs(np.sin(left.astype("float64")) - np.sin(exact)).max() < TOLERANCE
