"""The fix-ups of the webgpu target: Before/Expected, and that reduced angles keep their sines and cosines."""

from __future__ import annotations

import math

import numpy as np
import tvm
from tvm import te
from tvm.script import ir as I
from tvm.script import tirx as T

from argosy.compiler.targets.webgpu.fixups import (
    FIXUPS,
    FiniteConstants,
    ReduceAngles,
    RenameReserved,
    within_half_a_turn,
)

ANGLES = 4096
TOLERANCE = 4e-6  # float32 has angles as large as these in steps of up to 8e-3
LOWEST = float(np.finfo("float32").min)


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


def test_angles_of_float32_sines_and_cosines_are_reduced() -> None:
    turn, rest = 1 / math.tau, math.tau - 6.28125

    @I.ir_module
    class Before:
        @T.prim_func(s_tir=True)
        def main(x: T.Buffer((8,), "float32"), h: T.Buffer((8,), "float16"), y: T.Buffer((8,), "float32")):
            for i in range(8):
                y[i] = T.cos(x[i] * T.float32(2)) + T.sin(x[i]) + T.exp(x[i]) + T.Cast("float32", T.cos(h[i]))

    @I.ir_module
    class Expected:
        @T.prim_func(s_tir=True)
        def main(x: T.Buffer((8,), "float32"), h: T.Buffer((8,), "float16"), y: T.Buffer((8,), "float32")):
            for i in range(8):
                y[i] = (
                    T.cos(
                        x[i] * T.float32(2)
                        - T.floor(x[i] * T.float32(2) * T.float32(turn) + T.float32(0.5)) * T.float32(6.28125)
                        - T.floor(x[i] * T.float32(2) * T.float32(turn) + T.float32(0.5)) * T.float32(rest)
                    )
                    + T.sin(
                        x[i]
                        - T.floor(x[i] * T.float32(turn) + T.float32(0.5)) * T.float32(6.28125)
                        - T.floor(x[i] * T.float32(turn) + T.float32(0.5)) * T.float32(rest)
                    )
                    + T.exp(x[i])
                    + T.Cast("float32", T.cos(h[i]))
                )

    tvm.ir.assert_structural_equal(ReduceAngles()(Before), Expected)


def test_infinite_constants_become_the_largest_finite_ones() -> None:
    @I.ir_module
    class Before:
        @T.prim_func(s_tir=True)
        def main(x: T.Buffer((8,), "float32"), h: T.Buffer((8,), "float16")):
            for i in range(8):
                x[i] = T.max(T.min(x[i], T.float32("inf")), T.float32("-inf")) + T.float32(LOWEST)
                h[i] = T.max(h[i], T.float16("-inf"))

    @I.ir_module
    class Expected:
        @T.prim_func(s_tir=True)
        def main(x: T.Buffer((8,), "float32"), h: T.Buffer((8,), "float16")):
            for i in range(8):
                x[i] = T.max(T.min(x[i], T.float32(-LOWEST)), T.float32(LOWEST)) + T.float32(LOWEST)
                h[i] = T.max(h[i], T.float16(-65504))

    tvm.ir.assert_structural_equal(FiniteConstants()(Before), Expected)


def test_reserved_words_are_renamed() -> None:
    @I.ir_module
    class Before:
        @T.prim_func(s_tir=True)
        def main(self: T.Buffer((8,), "float32"), target: T.int32, target_: T.int32, length: T.int32):
            for i in range(8):
                self[i] = self[i] + T.Cast("float32", target + target_ + length)

    def names(mod: tvm.IRModule) -> list[str]:
        return [param.name for param in mod["main"].params]

    after = RenameReserved()(Before)
    assert names(after) == ["self_", "target__", "target_", "length"]
    tvm.ir.assert_structural_equal(after, Before)  # which does not compare names
    tvm.ir.assert_structural_equal(RenameReserved()(after), after)
    assert names(RenameReserved()(after)) == names(after)


def test_kernels_that_need_no_fixing_stay_as_they_are() -> None:
    @I.ir_module
    class Before:
        @T.prim_func(s_tir=True)
        def main(x: T.Buffer((8,), "float32"), length: T.int32):
            for i in range(length):
                x[i] = T.exp(x[i] + T.float32(LOWEST))

    after = tvm.transform.Sequential(list(FIXUPS))(Before)
    tvm.ir.assert_structural_equal(after, Before)
