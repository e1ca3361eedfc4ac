"""Choose the number of compute threads for this machine.

TVM reads TVM_NUM_THREADS when its thread pool starts, and otherwise uses half the hardware threads of an x86 machine,
which is wrong if cores have one thread, and in containers with a CPU quota: call `set_tvm_threads` before it starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from argosy.support import env


def set_tvm_threads() -> int:
    """Set TVM_NUM_THREADS to the number of compute threads, unless it is set and ARGOSY_THREADS is not.

    Returns the number that TVM will use.
    """
    present = os.environ.get("TVM_NUM_THREADS", "")
    if env.THREADS.get() is None and present.isdigit() and int(present) > 0:
        return int(present)
    count = compute_threads()
    os.environ["TVM_NUM_THREADS"] = str(count)
    return count


def compute_threads() -> int:
    """Return ARGOSY_THREADS, or the physical cores this process may use, at most its CPU quota."""
    chosen = env.THREADS.get()
    if chosen is not None:
        return chosen
    cores, quota = physical_cores(), cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def physical_cores(root: Path = Path("/sys/devices/system/cpu")) -> int:
    """Count the cores whose hardware threads this process may run on (its cpuset, `taskset`).

    Where the system does not list cores, this is the number of hardware threads.
    """
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
    """Return the CPU limit of this process's control groups, the smallest of all its ancestors; None if unlimited.

    Version 2 has one hierarchy, with `cpu.max`; version 1 has one per controller, with `cpu.cfs_quota_us`. In a
    container only the groups from its own one down may be mounted, while the membership names the host's path: groups
    that are not mounted are skipped, and the root of the mount is always read.
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
    """Return the limits of the group `path` below `root` and of all its ancestors."""
    group = PurePosixPath(path.lstrip("/"))
    found = []
    for ancestor in (group, *group.parents):
        try:
            limit = read(root / ancestor)
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
