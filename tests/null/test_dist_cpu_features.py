"""Instruction sets are read from the system's lists, and named as in LLVM."""

from __future__ import annotations

import pytest

from argosy.dist import cpu_features
from argosy.dist.cpu_features import missing_features, parse_cpuinfo

X86 = """processor\t: 0
model name\t: Some CPU with avx512f in its name
flags\t\t: fpu sse sse2 pni ssse3 sse4_1 sse4_2 abm avx avx2 fma bmi1 avx512f avx512_vnni sha_ni pku

processor\t: 1
flags\t\t: fpu sse sse2 pni ssse3 sse4_1 sse4_2 abm avx avx2 fma bmi1 sha_ni
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes atomics asimdhp asimddp i8mm\n"


def test_only_what_every_core_has_counts() -> None:
    found = parse_cpuinfo(X86, "x86_64")
    assert found == {"sse", "sse2", "sse3", "ssse3", "sse4.1", "sse4.2", "lzcnt", "avx", "avx2", "fma", "bmi", "sha"}


def test_arm_names() -> None:
    assert parse_cpuinfo(ARM, "aarch64") == {"fp-armv8", "neon", "aes", "lse", "fullfp16", "dotprod", "i8mm"}


@pytest.mark.parametrize("text", ["", "processor\t: 0\n", ARM])
def test_a_system_that_does_not_say(text: str) -> None:
    assert parse_cpuinfo(text, "x86_64") is None


def test_missing_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features, "host_features", lambda: frozenset({"avx2"}))
    assert missing_features(["+avx2", "avx512vnni", "+amx-int8", "64bit", "fast-movbe"]) == ("amx-int8", "avx512vnni")
    monkeypatch.setattr(cpu_features, "host_features", lambda: None)
    assert missing_features(["avx512vnni"]) == ()
