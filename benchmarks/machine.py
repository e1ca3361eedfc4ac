"""Nothing goes in; what a figure depends on comes out: the machine, how busy it is, the versions of the software."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from argosy.support.threads import compute_threads

PACKAGES = ("argosy", "apache-tvm", "apache-tvm-ffi", "numpy", "tokenizers")


def describe() -> dict[str, Any]:
    """The machine. `threads` is what Argosy computes with, and what a peer is given."""
    return {
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "logical_cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": compute_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_before": load(),
    }


def load() -> list[float]:
    """Load averages over 1, 5 and 15 minutes: figures from a busy machine are to be taken with care."""
    return [round(value, 2) for value in os.getloadavg()]


def _cpu_name() -> str:
    try:
        rows = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), platform.processor())


def versions() -> dict[str, str | None]:
    """Python, the packages that matter, and the commit of the checkout, None where there is none."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}, "commit": _commit()}


def version(package: str) -> str | None:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
