"""Linking for CPUs: object files go in, a shared library comes out, through a C compiler or through `ziglang`."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.support.errors import CompileError, TargetError

if TYPE_CHECKING:
    import tvm

_COMPILERS = ("cc", "gcc", "clang", "g++", "clang++")


def find_linker() -> list[str]:
    """The command that links: $CC, a C compiler on the path, or `ziglang`, in this order.

    Raises TargetError, naming both ways out, where there is none.
    """
    chosen = os.environ.get("CC", "").strip()
    if chosen and shutil.which(shlex.split(chosen)[0]):
        return shlex.split(chosen)
    for name in _COMPILERS:
        found = shutil.which(name)
        if found:
            return [found]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise TargetError(
        "no C compiler was found to link the library with",
        "install one (Debian: `apt-get install gcc`), or `pip install ziglang`",
    )


def link_shared(output: str, objects: list[str], **_: object) -> None:
    """Links `objects` into the shared library `output`.

    Raises CompileError with what the linker printed.
    """
    command = [*find_linker(), "-shared", "-fPIC", "-o", output, *objects]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = (result.stderr or result.stdout).strip().splitlines()
        raise CompileError(
            f"the linker `{command[0]}` failed: {said[-1] if said else 'it printed nothing'}",
            "see what it says with: " + shlex.join(command),
        )


def package(executable: tvm.runtime.Executable, path: Path) -> None:
    """Links a compiled executable into the shared library `path`."""
    executable.export_library(str(path), fcompile=link_shared)
