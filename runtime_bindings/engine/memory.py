"""Report this process's current and peak resident memory, in bytes."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Resident bytes now and at the peak; 0 if the system does not report them."""

    resident: int
    peak: int


def memory_use() -> MemoryUse:
    """Read /proc/self/status on Linux; elsewhere call getrusage, which reports the peak only."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            table = dict(line.split(":", 1) for line in file if ":" in line)
        return MemoryUse(_kilobytes(table["VmRSS"]), _kilobytes(table["VmHWM"]))
    except (OSError, KeyError, ValueError):
        return MemoryUse(0, _peak_of_rusage())


def _kilobytes(text: str) -> int:
    return int(text.split()[0]) * 1024


def _peak_of_rusage() -> int:
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
