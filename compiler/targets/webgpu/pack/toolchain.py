"""Drive the compiler for WebAssembly: `ziglang` from PyPI, which is a clang with a C++ library.

It compiles the pack's objects, collects the libraries that they need, and links both with a model. C++ exceptions use
WebAssembly's own, in the form that every browser with WebGPU supports. An error in the runtime so becomes an error in
JavaScript, with its message, and the runtime can go on.
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

# The functions that the JavaScript runtime calls.
EXPORTS = (
    "TVMFFIAnyViewToOwnedAny", "TVMFFIDataTypeToString", "TVMFFIErrorSetRaisedFromCStr", "TVMFFIFunctionCall",
    "TVMFFIFunctionGetGlobal", "TVMFFIFunctionSetGlobal", "TVMFFIGetTypeInfo", "TVMFFIObjectDecRef",
    "TVMFFIObjectIncRef", "TVMFFITypeKeyToIndex", "TVMFFIWasmFunctionCreate", "TVMFFIWasmGetLastError",
    "TVMWasmAllocSpace", "TVMWasmFreeSpace",
)  # fmt: skip
STACK_BYTES = 1 << 20
_COMPILE = ("-std=c++17", "-Oz", "-DNDEBUG", "-fwasm-exceptions", "-fvisibility=hidden", "-w", '-D__FILE__=""')


# Run a command in an environment and a directory, and return what it printed; raises CompileError.
Execute: TypeAlias = Callable[[Sequence[str], Mapping[str, str], Path], str]


@dataclass(frozen=True, slots=True)
class Job:
    """One object file to compile. `command` lacks only the directories to include from and the file to write."""

    name: str
    command: tuple[str, ...]
    source: Path


class Toolchain(Protocol):
    """A compiler for WebAssembly."""

    @property
    def name(self) -> str:
        """The name of the compiler's package."""
        ...

    @property
    def version(self) -> str:
        """The version of that package."""
        ...

    @property
    def flags(self) -> str:
        """All flags that change what is compiled, for the key of the cache."""
        ...

    def jobs(self, tree: Path) -> list[Job]:
        """Return the object files to compile from the source tree `tree`."""
        ...

    def environment(self, scratch: Path) -> Mapping[str, str]:
        """Return the environment of every command; the compiler may keep files in `scratch` between them."""
        ...

    def gather(self, pack: Path, scratch: Path, execute: Execute) -> None:
        """Add the libraries that linking needs to the directory `pack`. Jobs may run at the same time."""
        ...

    def link(self, pack: Path, objects: Sequence[Path], output: Path) -> list[str]:
        """Return the command that links `objects` with the pack into `output`."""
        ...


@dataclass(frozen=True, slots=True)
class Zig:
    """`ziglang`. Its C++ library for WASI is built without exceptions, so the part that throws is compiled here."""

    name: str
    version: str
    root: Path

    # zig treats -Oz as -Os; -Xclang passes it on.
    TARGET = ("-target", "wasm32-wasi", "-mcpu=generic+exception_handling", "-Xclang", "-Oz")
    LINK = ("--error-limit=0", "--gc-sections", "--strip-all", "--stack-first", "--entry=_initialize",
            "--export-memory", "-z", f"stack-size={STACK_BYTES}", "--build-id=none",
            *(f"--export={name}" for name in EXPORTS))  # fmt: skip
    # Parts of LLVM's libc++abi and libunwind, which zig ships as sources.
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
        """Link an empty program, which makes zig compile its C and C++ libraries, and keep those that it links with."""
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
                f"ziglang {self.version} does not print the libraries that it links with",
                "install the version that is known to work: `pip install 'argosy[web]'`",
            )

    def link(self, pack: Path, objects: Sequence[Path], output: Path) -> list[str]:
        ours = sorted(path for path in pack.glob("*.o") if not path.name.startswith("lib"))
        libraries = sorted(pack.glob("lib*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
        return [self.zig, "wasm-ld", *self.LINK, "-o", str(output), *map(str, (*objects, *ours, *libraries))]


def find_toolchain() -> Zig:
    """Return the installed `ziglang`.

    Raises TargetError if there is none.
    """
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        raise TargetError(
            "`ziglang`, which compiles and links WebAssembly, is not installed", "`pip install 'argosy[web]'`"
        )
    return Zig("ziglang", importlib.metadata.version("ziglang"), Path(found.submodule_search_locations[0]))
