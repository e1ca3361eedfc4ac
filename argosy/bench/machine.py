"""Describe what figures depend on: the machine, its load, the versions of the software."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = ("argosy", "apache-tvm", "apache-tvm-ffi", "numpy", "tokenizers")


def describe() -> dict[str, Any]:
    """Describe the machine and its present load."""
    return {
        "cpu": _cpu_name(),
        "system": f"{platform.system()} {platform.machine()}",
        "logical_cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_before": load(),
    }


def load() -> list[float]:
    """Return the load averages over 1, 5 and 15 minutes: figures from a busy machine are unreliable."""
    return [round(value, 2) for value in os.getloadavg()]


def _cpu_name() -> str:
    try:
        rows = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), platform.processor())


def versions(others: Iterable[str] = ()) -> dict[str, str | None]:
    """Return the versions of Python, our dependencies and `others`, and the commit of the checkout or None."""
    packages = {name: version(name) for name in (*PACKAGES, *others)}
    return {"python": platform.python_version(), **packages, "commit": _commit()}


def version(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of this checkout; None for an installed package, even inside another repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
