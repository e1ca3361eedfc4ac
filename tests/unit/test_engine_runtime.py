"""Loading TVM to run a model: without torch, without the compiler on request, with a given number of threads."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU: there is nothing to shrink")
def test_engine_threads_can_shrink_and_not_grow() -> None:
    code = """
import os
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads, use_runtime_only
from argosy.support.errors import UsageError
use_runtime_only()
first = min(2, os.cpu_count())
print(configure_threads(first) == first, configure_threads(1), configure_threads(None))
for wrong in (2, 9999, 0, -1, True, "2"):
    try:
        configure_threads(wrong)
    except UsageError as error:
        print(error.message)
"""
    counts, late, *wrong = run(code).splitlines()
    assert counts == "True 1 1"
    assert late == "`threads=2` cannot be had, TVM's thread pool of this process has 1"
    assert [line.split(" is not allowed, it must be from 1 to")[0] for line in wrong] == [
        f"`threads={value}`" for value in ("9999", "0", "-1", "True", "'2'")
    ]


def test_engine_loads_the_runtime_only_and_leaves_the_environment_and_torch_alone() -> None:
    code = """
import importlib.util, os, sys
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm, use_runtime_only
use_runtime_only()
tvm = load_tvm()
print(tvm.base._RUNTIME_ONLY, "TVM_USE_RUNTIME_LIB" in os.environ, "torch" in sys.modules)
found = importlib.util.find_spec("torch")
"""
    assert run(code) == "True False False"


def test_engine_loads_the_whole_of_tvm_unless_told_otherwise() -> None:
    code = "from argosy.runtime_bindings.engine.tvm_runtime import load_tvm; print(load_tvm().base._RUNTIME_ONLY)"
    assert run(code) == "False"


def test_engine_memory_is_that_of_the_process() -> None:
    # in a process of its own: the allocator of a used one may have 64 MiB at hand
    program = """
from argosy.runtime_bindings.engine.memory import memory_use
before = memory_use()
block = bytearray(64 << 20)
block[::4096] = b"x" * len(block[::4096])
after = memory_use()
assert after.resident - before.resident > 48 << 20, (before, after)
assert after.peak >= after.resident, after
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_engine_idle_threads_sleep() -> None:
    """After work for all threads, a second of waiting takes next to no processor time; spinning took 0.2 s a thread."""
    code = """
import time
import numpy as np
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads
configure_threads(None)
import tvm
from tvm import te
n = te.var("n")
x = te.placeholder((1024,), "float32", name="x")
function = te.create_prim_func([x, te.compute((1024,), lambda i: x[i] + 1, name="y")])
schedule = tvm.s_tir.Schedule(function)
schedule.parallel(schedule.get_loops(schedule.get_sblock("y"))[0])
run = tvm.compile(schedule.mod, "llvm")
a, b = tvm.runtime.tensor(np.ones(1024, "float32")), tvm.runtime.empty((1024,), "float32")
for _ in range(100):
    run(a, b)
before = time.process_time()
time.sleep(1)
print(time.process_time() - before)
"""
    assert float(run(code)) < 0.1
