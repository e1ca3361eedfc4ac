"""Check that libraries for CPUs can be linked."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from argosy.compiler.targets.cpu.link import find_linker
from argosy.compiler.targets.cpu.processors import PROCESSORS
from argosy.dist.cpu_features import architecture
from argosy.support.checks import Check
from argosy.support.errors import ArgosyError


def linker_checks() -> Iterator[Check]:
    """Yield a check of the linker for this machine, and one of the linker for the other architecture."""
    yield _linker()
    yield _cross_linker()


def _linker() -> Check:
    """Link an empty library: a compiler without the C library's development files cannot."""
    try:
        linker = find_linker()
    except ArgosyError as error:
        return Check("linker", False, error.message, "building", error.hint)
    name = " ".join(linker)
    if "ziglang" in linker:  # its first run builds a C library, which takes half a minute
        return Check("linker", True, name, "building")
    with tempfile.TemporaryDirectory() as folder:
        command = [*linker, "-shared", "-fPIC", "-x", "c", os.devnull, "-o", str(Path(folder) / "empty.so")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode == 0:
        return Check("linker", True, name, "building")
    printed = (result.stderr or result.stdout).strip().splitlines() or ["nothing"]
    remedy = "install the C library's headers (Debian: `apt-get install libc6-dev`), or `pip install ziglang`"
    return Check("linker", False, f"{name} cannot link: {printed[-1]}", "building", remedy)


def _cross_linker() -> Check:
    other = next(processor.arch for processor in PROCESSORS.values() if processor.arch != architecture())
    try:
        return Check("cross linker", True, f"{other}: {' '.join(find_linker(other))}")
    except ArgosyError as error:
        return Check("cross linker", False, f"none for {other}", remedy=error.hint)
