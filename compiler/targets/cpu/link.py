"""Link object files into a shared library, with a C compiler or with `ziglang`."""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.dist.cpu_features import architecture
from argosy.dist.triples import parse_triple
from argosy.support.errors import CompileError, TargetError

if TYPE_CHECKING:
    import tvm

_COMPILERS = ("cc", "gcc", "clang", "g++", "clang++")
_DEBIAN_NAMES = {"aarch64": "aarch64", "x86_64": "x86-64"}  # in names of packages; commands begin with the triple


def find_linker(arch: str | None = None) -> list[str]:
    """Return the command that links for this machine, or for Linux on the architecture `arch`.

    It is $CC, a C compiler on the path, or `ziglang`, in this order; for another architecture than this machine's, a
    cross compiler or `ziglang`. Raises TargetError if there is none.
    """
    if arch not in (None, architecture()):
        return _cross_linker(str(arch))
    chosen = os.environ.get("CC", "").strip()
    if chosen and shutil.which(shlex.split(chosen)[0]):
        return shlex.split(chosen)
    for name in _COMPILERS:
        found = shutil.which(name)
        if found:
            return [found]
    if _has_zig():
        return [sys.executable, "-m", "ziglang", "cc"]
    raise TargetError(
        "no C compiler was found to link the library with",
        "install one (Debian: `apt-get install gcc`), or `pip install ziglang`",
    )


def _cross_linker(arch: str) -> list[str]:
    found = shutil.which(f"{arch}-linux-gnu-gcc")
    if found:
        return [found]
    if _has_zig():
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-gnu"]
    package = f"gcc-{_DEBIAN_NAMES.get(arch, arch)}-linux-gnu"
    raise TargetError(
        f"no compiler was found that links for `{arch}`, which is not this machine's architecture",
        f"`pip install ziglang`, or a cross compiler (Debian: `apt-get install {package}`)",
    )


def _has_zig() -> bool:
    return importlib.util.find_spec("ziglang") is not None


def link_shared(output: str, objects: list[str], *, arch: str | None = None, **_: object) -> None:
    """Link `objects` into the shared library `output`.

    Raises CompileError with the last line that the linker printed.
    """
    command = [*find_linker(arch), "-shared", "-fPIC", "-o", output, *objects]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        printed = (result.stderr or result.stdout).strip().splitlines()
        raise CompileError(
            f"the linker `{command[0]}` failed: {printed[-1] if printed else 'it printed nothing'}",
            "see all of its output with: " + shlex.join(command),
        )


def package(executable: tvm.runtime.Executable, path: Path, triple: str) -> None:
    """Link an executable compiled for `triple` into the shared library `path`."""
    link = functools.partial(link_shared, arch=parse_triple(triple).arch)
    executable.export_library(str(path), fcompile=link)
