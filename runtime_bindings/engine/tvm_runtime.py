"""Import TVM without torch and start its thread pool."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from argosy.support.errors import UsageError
from argosy.support.threads import set_tvm_threads

# How often an idle worker yields before it sleeps: about 10 ms, longer than the pause between two tokens. TVM's default
# of 300,000 keeps every core busy for 0.2 s after an answer.
SPIN_COUNT = "20000"

_prefer_runtime_only = False


def use_runtime_only() -> None:
    """Make the first `load_tvm` of this process leave out TVM's compiler: 0.35 s and 83 MB, not 0.7 s and 194 MB.

    This is for programs that never build in the same process, such as `argosy chat`. Once TVM is loaded in this way,
    the process cannot compile; its child processes can.
    """
    global _prefer_runtime_only
    _prefer_runtime_only = True


def load_tvm() -> ModuleType:
    """Return the module `tvm`, importing it if necessary. `tvm.runtime.vm` is there with and without the compiler."""
    if "tvm" not in sys.modules:
        with _without_torch(), _environment("TVM_USE_RUNTIME_LIB", "1" if _prefer_runtime_only else None):
            import tvm
    import tvm
    import tvm.runtime.vm

    return tvm


@contextmanager
def _without_torch() -> Iterator[None]:
    """Hide torch within this context: tvm_ffi imports it if it can (2 s, 200 MB)."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


@contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set `name` within this context only, so that child processes do not inherit it; None changes nothing."""
    if value is None:
        yield
        return
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def configure_threads(threads: int | None) -> int:
    """Start TVM's thread pool of the calling thread with `threads` workers, by default one for each core that this
    process may use, and return their number.

    A running pool can shrink but not grow: more threads than it has raise UsageError. The operating system places the
    workers. TVM would bind them to the first CPUs, whatever a cpuset or `taskset` says, even if those are two
    hyper-threads of one core; `TVM_BIND_THREADS=1` in the environment restores the binding.
    """
    most = os.cpu_count() or 1
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most):
        raise UsageError(f"`threads={threads!r}` is not allowed, it must be from 1 to this machine's {most} CPUs")
    if threads is None:
        wanted = set_tvm_threads()
    else:
        wanted = threads
        os.environ["TVM_NUM_THREADS"] = str(threads)
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    os.environ.setdefault("TVM_THREAD_POOL_SPIN_COUNT", SPIN_COUNT)
    tvm = load_tvm()
    count = tvm.get_global_func("runtime.NumThreads")
    if count() > wanted:
        tvm.get_global_func("runtime.config_threadpool")(1, wanted)
    if count() < wanted and threads is not None:
        os.environ["TVM_NUM_THREADS"] = str(count())
        raise UsageError(
            f"`threads={threads}` cannot be had, TVM's thread pool of this process has {count()}",
            "the first ChatModule of a process sets their number",
        )
    return int(count())


def limit_threads(threads: int) -> None:
    """Give the calling thread a pool of at most `threads` workers. TVM has a pool for every thread that computes."""
    tvm = load_tvm()
    if tvm.get_global_func("runtime.NumThreads")() > threads:
        tvm.get_global_func("runtime.config_threadpool")(1, threads)
