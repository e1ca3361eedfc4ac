"""The compiler for WebAssembly: `ziglang` from PyPI, which is a clang with a C++ library.

It compiles the pack's objects, gathers them with the libraries that they need, and links them with a model. C++
exceptions are WebAssembly's own, in the form that every browser with WebGPU knows, so that an error in the runtime is
an error in JavaScript, with its message, and the runtime goes on.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from argosy.compiler.targets.webgpu.pack.sources import UNITS, WASI_UNITS
from argosy.support.errors import CompileError, TargetError

# What the JavaScript runtime calls by name.
EXPORTS = (
    "TVMFFIAnyViewToOwnedAny", "TVMFFIDataTypeToString", "TVMFFIErrorSetRaisedFromCStr", "TVMFFIFunctionCall",
    "TVMFFIFunctionGetGlobal", "TVMFFIFunctionSetGlobal", "TVMFFIGetTypeInfo", "TVMFFIObjectDecRef",
    "TVMFFIObjectIncRef", "TVMFFITypeKeyToIndex", "TVMFFIWasmFunctionCreate", "TVMFFIWasmGetLastError",
    "TVMWasmAllocSpace", "TVMWasmFreeSpace",
)  # fmt: skip
STACK_BYTES = 1 << 20
_COMPILE = ("-std=c++17", "-Oz", "-DNDEBUG", "-fwasm-exceptions", "-fvisibility=hidden", "-w", '-D__FILE__=""')


# Runs a command in an environment and a directory, and returns what it printed; raises CompileError.
Execute: TypeAlias = Callable[[Sequence[str], Mapping[str, str], Path], str]


@dataclass(frozen=True, slots=True)
class Job:
    """One object file to compile: `command` lacks the directories to include from, and the file to write."""

    name: str
    command: tuple[str, ...]
    source: Path


class Toolchain(Protocol):
    """A compiler for WebAssembly. `flags` is everything about its commands that changes what comes out."""

    name: str
    version: str

    @property
    def flags(self) -> str:
        """All flags, for the key of the cache."""
        ...

    def jobs(self, tree: Path) -> list[Job]:
        """What to compile of the source tree `tree`."""
        ...

    def environment(self, scratch: Path) -> Mapping[str, str]:
        """Environment of every command; `scratch` holds what the compiler wants to keep between them."""
        ...

    def gather(self, pack: Path, scratch: Path, execute: Execute) -> None:
        """Adds to the directory `pack` the libraries that linking needs. Jobs may run meanwhile."""
        ...

    def link(self, pack: Path, objects: Sequence[Path], output: Path) -> list[str]:
        """The command that links `objects` with the pack into `output`."""
        ...


@dataclass(frozen=True, slots=True)
class Zig:
    """`ziglang`: its C++ library for WASI is built without exceptions, so the part that throws is compiled here."""

    name: str
    version: str
    root: Path

    # zig takes -Oz for -Os: clang itself is told.
    TARGET = ("-target", "wasm32-wasi", "-mcpu=generic+exception_handling", "-Xclang", "-Oz")
    LINK = ("--error-limit=0", "--gc-sections", "--strip-all", "--stack-first", "--entry=_initialize",
            "--export-memory", "-z", f"stack-size={STACK_BYTES}", "--build-id=none",
            *(f"--export={name}" for name in EXPORTS))  # fmt: skip
    # Of LLVM's libc++abi and libunwind, both shipped as sources.
    CXX = ("libcxxabi/src/cxa_exception.cpp", "libcxxabi/src/cxa_personality.cpp",
           "libcxxabi/src/stdlib_new_delete.cpp")  # fmt: skip
    CXX_FLAGS = ("-std=c++23", "-D_LIBCXXABI_BUILDING_LIBRARY", "-D_LIBCPP_BUILDING_LIBRARY",
                 "-D_LIBCXXABI_HAS_NO_THREADS")  # fmt: skip
    UNWIND = "libunwind/src/Unwind-wasm.c"
    UNWIND_FLAGS = ("-D_LIBUNWIND_HAS_NO_THREADS", "-D_LIBUNWIND_HIDE_SYMBOLS")

    @property
    def zig(self) -> str:
        return str(self.root / "zig")

    @property
    def flags(self) -> str:
        return " ".join((*self.TARGET, *_COMPILE, *self.CXX_FLAGS, *self.UNWIND_FLAGS, *self.LINK))

    def jobs(self, tree: Path) -> list[Job]:
        lib = self.root / "lib"
        cxx = (self.zig, "c++", *self.TARGET, *_COMPILE)
        runtime = (*cxx, "-include", str(tree / "config.h"))
        abi = (
            *cxx, *self.CXX_FLAGS, f"-I{lib}/libcxxabi/include", f"-I{lib}/libcxx/src", f"-I{lib}/libcxxabi/src",
            f"-I{lib}/libunwind/include",
        )  # fmt: skip
        plain = [flag for flag in _COMPILE if not flag.startswith("-std")]
        unwind = (
            self.zig, "cc", *self.TARGET, *plain, *self.UNWIND_FLAGS, f"-I{lib}/libunwind/include",
            f"-I{lib}/libunwind/src",
        )  # fmt: skip
        return [
            *(Job(f"{Path(unit).stem}.o", runtime, tree / unit) for unit in (*UNITS, *WASI_UNITS)),
            *(Job(f"{Path(source).stem}.o", abi, lib / source) for source in self.CXX),
            Job("unwind.o", unwind, lib / self.UNWIND),
        ]

    def environment(self, scratch: Path) -> Mapping[str, str]:
        kept = str(scratch / "zig")
        return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": kept, "ZIG_LOCAL_CACHE_DIR": kept, "ZIG_VERBOSE_LINK": "1"}

    def gather(self, pack: Path, scratch: Path, execute: Execute) -> None:
        """Lets zig link nothing: that compiles its C and C++ libraries. Keeps those that it passed to its linker."""
        nothing = scratch / "nothing.cc"
        nothing.write_bytes(b"")
        command = [self.zig, "c++", *self.TARGET, "-Oz", "-mexec-model=reactor", "-o", str(scratch / "once.wasm")]
        printed = execute([*command, str(nothing)], self.environment(scratch), scratch)
        words = next((shlex.split(line) for line in printed.splitlines() if line.startswith("wasm-ld ")), [])
        libraries = [word for word in words if word.endswith(".a") or Path(word).name.startswith("crt1")]
        for number, word in enumerate(libraries):
            shutil.copyfile(scratch / word, pack / f"lib{number}-{Path(word).name}")
        if not any(pack.glob("lib*-crt1-reactor.o")):
            raise CompileError(
                f"ziglang {self.version} does not say what it links with", "`pip install argosy[web]` for the one known"
            )

    def link(self, pack: Path, objects: Sequence[Path], output: Path) -> list[str]:
        ours = sorted(path for path in pack.glob("*.o") if not path.name.startswith("lib"))
        libraries = sorted(pack.glob("lib*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
        return [self.zig, "wasm-ld", *self.LINK, "-o", str(output), *map(str, (*objects, *ours, *libraries))]


def find_toolchain() -> Zig:
    """The installed `ziglang`.

    Raises TargetError where there is none.
    """
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        raise TargetError(
            "`ziglang`, which compiles and links WebAssembly, is not installed", "`pip install argosy[web]`"
        )
    return Zig("ziglang", importlib.metadata.version("ziglang"), Path(found.submodule_search_locations[0]))
