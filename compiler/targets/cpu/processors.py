"""A table of processors that a library can be compiled for, on whatever machine. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from argosy.dist.cpu_features import architecture, missing_features


@dataclass(frozen=True, slots=True)
class Processor:
    """A family of processors.

    `arch` is spelled as in triples. `cpu` and `attributes` are LLVM's name of a processor and the features to add to
    it; `features` are all that compiled code may then use, and that a machine must have to run it.
    """

    name: str
    summary: str
    arch: str
    cpu: str
    attributes: tuple[str, ...]
    features: frozenset[str]

    def runs_here(self) -> bool:
        """Return whether this machine runs code for the processor, also if its own features are unknown."""
        return self.arch == architecture() and not missing_features(self.features)


_V3 = frozenset(
    {
        "avx", "avx2", "bmi", "bmi2", "cx16", "f16c", "fma", "lzcnt", "movbe", "popcnt",
        "sse", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3",
    }
)  # fmt: skip
_V4 = _V3 | {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}
_ARM64 = frozenset({"fp-armv8", "neon"})

_TABLE = (
    Processor(
        "x86_64-v3", "x86-64 with AVX2, FMA and F16C: Intel since 2013, AMD since 2015", "x86_64", "x86-64-v3", (), _V3
    ),
    Processor(
        "x86_64-v4", "x86-64 with AVX-512 and VNNI: Intel servers since 2019, AMD since 2022", "x86_64", "x86-64-v4",
        ("+avx512vnni",), _V4 | {"avx512vnni"},
    ),
    Processor(
        "arm64", "64-bit ARM with dot products: Raspberry Pi 5, Graviton 2, Apple M1", "aarch64", "generic",
        ("+neon", "+dotprod"), _ARM64 | {"dotprod"},
    ),
    Processor(
        "arm64-i8mm", "64-bit ARM with matrix products of bytes: Graviton 3, Apple M2", "aarch64", "generic",
        ("+neon", "+dotprod", "+i8mm"), _ARM64 | {"dotprod", "i8mm"},
    ),
)  # fmt: skip
PROCESSORS: dict[str, Processor] = {processor.name: processor for processor in _TABLE}
