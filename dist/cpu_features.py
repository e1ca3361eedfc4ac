"""Detect the instruction sets of this machine, under LLVM's names.

Only instruction sets that compiled code may use are listed. LLVM's own lists also contain tuning hints and system
instructions (`fast-movbe`, `pku`), which do not affect whether a library runs.
"""

from __future__ import annotations

import functools
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# Name in Linux's /proc/cpuinfo -> LLVM's name.
_X86 = {
    "sse": "sse", "sse2": "sse2", "pni": "sse3", "ssse3": "ssse3", "sse4_1": "sse4.1", "sse4_2": "sse4.2",
    "sse4a": "sse4a", "popcnt": "popcnt", "abm": "lzcnt", "cx16": "cx16", "movbe": "movbe", "aes": "aes",
    "pclmulqdq": "pclmul", "avx": "avx", "f16c": "f16c", "fma": "fma", "avx2": "avx2", "bmi1": "bmi", "bmi2": "bmi2",
    "adx": "adx", "sha_ni": "sha", "gfni": "gfni", "vaes": "vaes", "vpclmulqdq": "vpclmulqdq",
    "avx512f": "avx512f", "avx512cd": "avx512cd", "avx512dq": "avx512dq", "avx512bw": "avx512bw",
    "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi", "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni", "avx512_bitalg": "avx512bitalg", "avx512_vpopcntdq": "avx512vpopcntdq",
    "avx512_bf16": "avx512bf16", "avx512_fp16": "avx512fp16", "avx512_vp2intersect": "avx512vp2intersect",
    "avx_vnni": "avxvnni", "avx_vnni_int8": "avxvnniint8", "avx_vnni_int16": "avxvnniint16", "avx_ifma": "avxifma",
    "avx_ne_convert": "avxneconvert", "amx_tile": "amx-tile", "amx_int8": "amx-int8", "amx_bf16": "amx-bf16",
    "amx_fp16": "amx-fp16",
}  # fmt: skip
_ARM64 = {
    "fp": "fp-armv8", "asimd": "neon", "aes": "aes", "sha2": "sha2", "sha3": "sha3", "crc32": "crc", "atomics": "lse",
    "asimdhp": "fullfp16", "asimdrdm": "rdm", "asimddp": "dotprod", "asimdfhm": "fp16fml", "jscvt": "jsconv",
    "fcma": "complxnum", "lrcpc": "rcpc", "i8mm": "i8mm", "bf16": "bf16", "sve": "sve", "sve2": "sve2",
    "svei8mm": "i8mm", "svebf16": "bf16", "sme": "sme", "sme2": "sme2",
}  # fmt: skip
# Name below macOS's hw.optional.arm -> LLVM's name.
_APPLE = {
    "FEAT_DotProd": "dotprod", "FEAT_I8MM": "i8mm", "FEAT_BF16": "bf16", "FEAT_FP16": "fullfp16", "FEAT_LSE": "lse",
    "FEAT_RDM": "rdm", "FEAT_FHM": "fp16fml", "FEAT_AES": "aes", "FEAT_SHA256": "sha2", "FEAT_SHA3": "sha3",
    "FEAT_CRC32": "crc", "FEAT_JSCVT": "jsconv", "FEAT_FCMA": "complxnum", "FEAT_LRCPC": "rcpc", "FEAT_SME": "sme",
    "FEAT_SME2": "sme2",
}  # fmt: skip
# Instructions that multiply bytes, slowest first: they decide which library is faster.
_PRODUCTS = ("neon", "dotprod", "i8mm", "avx2", "avxvnni", "avx512vnni")
CHECKED = frozenset(_X86.values()) | frozenset(_ARM64.values())


def architecture() -> str:
    """Return the architecture as in a triple: `x86_64`, `aarch64`, or the machine's own name for it."""
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def operating_system() -> str:
    """Return `linux`, `android`, `macos`, `windows` or what else Python calls this system."""
    if hasattr(sys, "getandroidapilevel"):  # Python calls Android `linux` before 3.13
        return "android"
    system = sys.platform.rstrip("0123456789")
    return {"darwin": "macos", "win": "windows"}.get(system, system)


@functools.cache
def host_features() -> frozenset[str] | None:
    """Return the instruction sets of this machine, or None if they cannot be detected."""
    if sys.platform.startswith("linux"):
        try:
            return parse_cpuinfo(Path("/proc/cpuinfo").read_text(), architecture())
        except OSError:
            return None
    if sys.platform == "darwin" and architecture() == "aarch64":
        return _apple_features()
    return None


def parse_cpuinfo(text: str, arch: str) -> frozenset[str] | None:
    """Return the instruction sets that all cores in a `/proc/cpuinfo` have, or None if it lists none."""
    key, names = ("flags", _X86) if arch == "x86_64" else ("Features", _ARM64)
    rows = [line.partition(":") for line in text.splitlines()]
    cores = [{names[flag] for flag in row[2].split() if flag in names} for row in rows if row[0].strip() == key]
    return frozenset(set.intersection(*cores)) if cores else None


def _apple_features() -> frozenset[str] | None:
    try:
        command = ["/usr/sbin/sysctl", "hw.optional.arm"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return None
    rows = (line.rpartition(".")[2].partition(":") for line in done.stdout.splitlines())
    present = {_APPLE[row[0]] for row in rows if row[0] in _APPLE and row[2].strip() == "1"}
    return frozenset({"neon", "fp-armv8"} | present)


def missing_features(required: Iterable[str]) -> tuple[str, ...]:
    """Return the `required` features (a leading `+` is ignored) that this machine is known to lack."""
    present = host_features()
    if present is None:
        return ()
    names = {name.removeprefix("+") for name in required}
    return tuple(sorted(name for name in names & CHECKED if name not in present))


def strength(features: Iterable[str]) -> tuple[int, int]:
    """Rank a library that needs `features`; larger is faster: by how it multiplies, then by how many it uses."""
    names = {name.removeprefix("+") for name in features} & CHECKED
    return max((rank for rank, name in enumerate(_PRODUCTS, 1) if name in names), default=0), len(names)
