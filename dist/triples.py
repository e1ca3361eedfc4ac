"""Read LLVM target triples such as `aarch64-unknown-linux-gnu`."""

from __future__ import annotations

from dataclasses import dataclass

# (system, how a component of its triples begins, suffix of its shared libraries), in the order in which they are tried:
# Android's triples name Linux too.
_SYSTEMS = (
    ("android", ("android",), ".so"),
    ("linux", ("linux",), ".so"),
    ("macos", ("darwin", "macos"), ".dylib"),
    ("ios", ("ios",), ".dylib"),
    ("windows", ("windows", "win32", "mingw"), ".dll"),
    ("freebsd", ("freebsd",), ".so"),
)
_SUFFIXES = {system: suffix for system, _, suffix in _SYSTEMS}
_ARCHITECTURES = {"arm64": "aarch64", "amd64": "x86_64"}
_WEBASSEMBLY = ("wasm32", "wasm64")

NATIVE_SUFFIXES = tuple(dict.fromkeys(_SUFFIXES.values()))
"""The suffixes that shared libraries have on some system."""
LIBRARY_SUFFIXES = (*NATIVE_SUFFIXES, ".wasm")
"""The suffixes of all compiled libraries, those for browsers included."""


@dataclass(frozen=True, slots=True)
class Triple:
    """The machines that a library is for, named as `cpu_features.architecture` and `operating_system` name this one.

    `system` is None where the triple names none that is known.
    """

    arch: str
    system: str | None

    @property
    def for_browsers(self) -> bool:
        """Whether the code is WebAssembly, which browsers and Node run and Python does not."""
        return self.arch in _WEBASSEMBLY

    @property
    def library_suffix(self) -> str:
        """The suffix of a library's file."""
        return ".wasm" if self.for_browsers else _SUFFIXES.get(self.system or "", ".so")


def parse_triple(triple: str) -> Triple:
    """Parse `architecture[-vendor]-system[-environment]`."""
    arch, *others = triple.lower().split("-")
    named = (
        system for system, beginnings, _ in _SYSTEMS if any(component.startswith(beginnings) for component in others)
    )
    return Triple(_ARCHITECTURES.get(arch, arch), next(named, None))
