"""Target triples: what they say of a machine, and which of them this machine runs."""

from __future__ import annotations

import sys

import pytest

from argosy.dist import cpu_features
from argosy.dist.cpu_features import architecture, operating_system
from argosy.dist.triples import NATIVE_SUFFIXES, parse_triple

TRIPLES = {
    "x86_64-linux-gnu": ("x86_64", "linux", ".so"),
    "x86_64-unknown-linux-gnu": ("x86_64", "linux", ".so"),
    "x86_64-alpine-linux-musl": ("x86_64", "linux", ".so"),
    "aarch64-linux-gnu": ("aarch64", "linux", ".so"),
    "s390x-ibm-linux": ("s390x", "linux", ".so"),
    "aarch64-linux-android": ("aarch64", "android", ".so"),
    "aarch64-unknown-linux-android21": ("aarch64", "android", ".so"),
    "armv7a-linux-androideabi": ("armv7a", "android", ".so"),
    "arm64-apple-darwin23.1.0": ("aarch64", "macos", ".dylib"),
    "arm64-apple-macosx14.0.0": ("aarch64", "macos", ".dylib"),
    "x86_64-apple-darwin": ("x86_64", "macos", ".dylib"),
    "arm64-apple-ios17.0": ("aarch64", "ios", ".dylib"),
    "x86_64-pc-windows-msvc": ("x86_64", "windows", ".dll"),
    "x86_64-w64-mingw32": ("x86_64", "windows", ".dll"),
    "amd64-unknown-freebsd14": ("x86_64", "freebsd", ".so"),
    "wasm32-unknown-unknown-wasm": ("wasm32", None, ".wasm"),
    "riscv64-unknown-elf": ("riscv64", None, ".so"),
    "": ("", None, ".so"),
    "linux": ("linux", None, ".so"),
}


@pytest.mark.parametrize("triple", TRIPLES)
def test_a_triple_names_an_architecture_and_a_system(triple: str) -> None:
    arch, system, suffix = TRIPLES[triple]
    found = parse_triple(triple)
    assert (found.arch, found.system, found.library_suffix) == (arch, system, suffix)
    assert found.for_browsers == (suffix == ".wasm")
    assert found.for_browsers or suffix in NATIVE_SUFFIXES


@pytest.mark.parametrize(
    ("platform", "system"),
    [("linux", "linux"), ("darwin", "macos"), ("win32", "windows"), ("freebsd14", "freebsd"), ("aix", "aix")],
)
def test_this_system_is_named_as_triples_name_it(platform: str, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features.sys, "platform", platform)
    assert operating_system() == system


def test_android_is_not_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "getandroidapilevel", lambda: 24, raising=False)
    assert operating_system() == "android"


def test_the_triple_of_this_machine_is_this_machine() -> None:
    found = parse_triple(f"{architecture()}-unknown-{operating_system()}-gnu")
    assert (found.arch, found.system) == (architecture(), operating_system())
