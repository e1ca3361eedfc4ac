"""The machine goes in, the number of compute threads comes out.

TVM reads TVM_NUM_THREADS when its thread pool starts and otherwise takes half the hardware threads of an x86 machine,
which is wrong where a core has one thread, and in containers with a CPU quota: call `set_tvm_threads` before it starts.
"""

from __future__ import annotations

import os
from pathlib import Path

from argosy.support import env


def set_tvm_threads() -> int:
    """Put the number of compute threads into TVM_NUM_THREADS, unless it is set already and ARGOSY_THREADS is not.

    Returns the number that TVM will use.
    """
    present = os.environ.get("TVM_NUM_THREADS", "")
    if env.THREADS.get() is None and present.isdigit() and int(present) > 0:
        return int(present)
    count = compute_threads()
    os.environ["TVM_NUM_THREADS"] = str(count)
    return count


def compute_threads() -> int:
    """ARGOSY_THREADS, or the physical cores this process may use, no more than its CPU quota."""
    wanted = env.THREADS.get()
    if wanted is not None:
        return wanted
    cores = _physical_cores()
    quota = _quota()
    return cores if quota is None else max(1, min(cores, quota))


def _physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Distinct cores among the hardware threads this process may run on; the thread count where that is not known."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    threads = os.sched_getaffinity(0)
    cores = set()
    for thread in threads:
        try:
            cores.add((root / f"cpu{thread}/topology/thread_siblings_list").read_text())
        except OSError:
            return len(threads)
    return len(cores)


def _quota(path: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Whole CPUs that the control group allows, rounded up, or None without a limit."""
    try:
        quota, period = path.read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None
