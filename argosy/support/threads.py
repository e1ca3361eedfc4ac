"""The machine goes in, the number of compute threads comes out.

TVM reads TVM_NUM_THREADS when its thread pool starts and otherwise takes half the hardware threads of an x86 machine,
which is wrong where a core has one thread, and in containers with a CPU quota: call `set_tvm_threads` before it starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

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
    cores, quota = physical_cores(), cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Distinct cores among the hardware threads this process may run on (its cpuset, `taskset`); the number of
    hardware threads where cores are not known."""
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


def cpu_quota(mounted: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """CPUs' worth of time that the control groups around this process allow, the least of them; None without a limit.

    Version 2 has one hierarchy, `cpu.max`; version 1 one for the controller `cpu`, `cpu.cfs_quota_us`. In a container
    the groups may be mounted from its own group down, while the membership names the host's path: what is not there
    is passed over, and the mount's root is always looked at.
    """
    try:
        lines = membership.read_text().splitlines()
    except (OSError, ValueError):
        return None
    limits: list[float] = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            limits += _limits(mounted, path, _limit_v2)
        elif "cpu" in controllers.split(","):
            for name in {"cpu", controllers}:
                limits += _limits(mounted / name, path, _limit_v1)
    return min(limits, default=None)


def _limits(root: Path, path: str, read: Callable[[Path], float | None]) -> list[float]:
    """The limits of the group `path` below `root` and of all groups around it."""
    group = PurePosixPath(path.lstrip("/"))
    found = []
    for each in (group, *group.parents):
        try:
            limit = read(root / each)
        except (OSError, ValueError, ZeroDivisionError):
            continue
        if limit is not None:
            found.append(limit)
    return found


def _limit_v2(group: Path) -> float | None:
    quota, period = (group / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _limit_v1(group: Path) -> float | None:
    quota, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return None if quota <= 0 else quota / period
