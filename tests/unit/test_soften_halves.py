"""SoftenHalves: every half and millions of floats compared with numpy on plain x86-64; no calls in the code."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.cpu.lanes import convert, load, store
from argosy.compiler.passes.soften_halves import SoftenHalves
from argosy.compiler.pipeline import pipeline, run
from argosy.compiler.schedule.cpu import ScheduleCpu
from argosy.compiler.targets import target_named
from argosy.compiler.targets.cpu.processors import PROCESSORS, Processor
from argosy.compiler.targets.cpu.target import processor_target
from argosy.dist.cpu_features import architecture

sys.path.insert(0, str(Path(__file__).parents[1] / "backend"))

from test_cpu_targets import PLAIN

X86_64, AARCH64 = PLAIN
WAYS = (("float16", "float32"), ("float32", "float16"))
CALL = re.compile(r"\b(?:call|callq|bl)\s+_*(?:extendhfsf2|truncsfhf2|gnu_h2f_ieee|gnu_f2h_ieee)")


def kernel(source: str, target: str, lanes: int) -> tvm.IRModule:
    """Build y = x in another dtype, in vectors of `lanes`."""
    n = size("n")
    made = Kernel("main")
    with made:
        x, y = made.tensor("x", (n,), source), made.tensor("y", (n,), target)
        with T.serial(n // lanes) as i:
            value = convert(load(x, i * lanes, lanes=lanes), target, lanes)
            store(y, value, i * lanes, lanes=lanes) if lanes > 1 else T.buffer_store(y, value, [i])
    return tvm.IRModule({"main": made.function})


def operator(source: str, target: str, _lanes: int) -> tvm.IRModule:
    """Build y = x in another dtype, as the operator of the graph is lowered."""
    n = te.var("n", "int64")
    x = te.placeholder((n, 32), source, "x")
    function = te.create_prim_func([x, te.compute((n, 32), lambda i, j: x[i, j].astype(target), "y")])
    return ScheduleCpu()(tvm.IRModule({"main": function.with_attr("global_symbol", "main")}))


def halves() -> np.ndarray:
    """Return all 65536 halves."""
    return np.arange(1 << 16, dtype="uint16").view("float16")


def floats() -> np.ndarray:
    """Return all halves, the midpoints, their neighbours, and four million floats of any bits: (n, 32)."""
    near = halves()[:0x7C01].astype("float32")
    middles = np.append((near[:-2] + near[1:-1]) / 2, np.float32(65520))
    exact = np.concatenate([near, middles])
    above, below = (np.nextafter(exact, np.float32(limit)) for limit in (np.inf, -np.inf))
    random = np.random.default_rng(0).integers(0, 1 << 32, 1 << 22, dtype="uint32").view("float32")
    special = halves()[0x7C00:0x8000].astype("float32")
    all_of_them = np.concatenate([exact, above, below, special])
    both_signs = np.concatenate([all_of_them, -all_of_them, random])
    return np.resize(both_signs, (-(-len(both_signs) // 32), 32))


@pytest.mark.skipif(architecture() != "x86_64", reason=f"this machine is {architecture()}")
@pytest.mark.parametrize(("source", "target"), WAYS)
@pytest.mark.parametrize(("make", "lanes"), [(kernel, 16), (kernel, 4), (kernel, 1), (operator, 16)])
def test_values_are_those_of_numpy(
    make: Callable[[str, str, int], tvm.IRModule], lanes: int, source: str, target: str
) -> None:
    x = halves().reshape(-1, 32) if source == "float16" else floats()
    x = x if make is operator else x.reshape(-1)
    made = SoftenHalves()(make(source, target, lanes))
    y = tvm.runtime.tensor(np.zeros(x.shape, target))
    tvm.compile(made, target=processor_target(X86_64, "f32", "f16").tvm_target)["main"](tvm.runtime.tensor(x), y)
    with np.errstate(all="ignore"):
        expected = x.astype(target)
    nan = np.isnan(expected)
    assert (np.isnan(y.numpy()) == nan).all()
    bits = f"uint{8 * expected.itemsize}"  # -0 is not 0
    np.testing.assert_array_equal(y.numpy().view(bits)[~nan], expected.view(bits)[~nan])
    assert (np.signbit(y.numpy()) == np.signbit(expected)).all()


def test_nothing_else_is_touched_and_nothing_twice() -> None:
    other = kernel("int32", "float32", 16)
    tvm.ir.assert_structural_equal(SoftenHalves()(other), other)
    once = SoftenHalves()(kernel("float16", "float32", 16))
    tvm.ir.assert_structural_equal(SoftenHalves()(once), once)


def test_a_target_is_asked_for_its_instructions() -> None:
    assert not processor_target(X86_64, "int8", "f16").converts_halves
    assert processor_target(AARCH64, "int8", "f16").converts_halves
    assert all(target_named(name).converts_halves for name in PROCESSORS)


@pytest.mark.parametrize("name", ["cpu", *PROCESSORS, *(cpu.name for cpu in PLAIN)])
@pytest.mark.parametrize(("source", "target"), WAYS)
def test_no_cpu_calls_a_function_for_an_element(name: str, source: str, target: str) -> None:
    """Library calls are found in the code of a target that claims instructions it lacks, and in no real target's."""
    known = name == "cpu" or name in PROCESSORS
    record = target_named(name) if known else processor_target(cpu_named(name), "int8", "f16")
    made = kernel(source, target, 16)
    (schedule,) = (phase for phase in pipeline(record) if phase.name == "schedule")
    assert CALL.search(assembly(made, processor_target(X86_64, "int8", "f16").tvm_target))
    assert not CALL.search(assembly(run(made, schedule, record), record.tvm_target))


def cpu_named(name: str) -> Processor:
    return next(cpu for cpu in PLAIN if cpu.name == name)


def assembly(mod: tvm.IRModule, target: tvm.target.Target) -> str:
    return str(tvm.compile(mod, target=target).mod.inspect_source("asm"))
