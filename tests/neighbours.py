"""Order test files: those next to what changed first, then by what they need."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDERS = ("null", "fuzz", "unit", "backend", "web")  # cheapest first
INSTALLED = ("model_defs", "quant", "compiler", "dist", "runtime_bindings")  # as argosy.model_defs and so on
_CHANGED = (
    ("git", "diff", "--name-only", "HEAD"),
    ("git", "ls-files", "--others", "--exclude-standard"),
    ("git", "show", "--name-only", "--format=", "HEAD"),
)


def changed_files(root: Path) -> set[str]:
    """The files changed in the working tree of `root` and in its last commit; none without git."""
    changed: set[str] = set()
    for command in _CHANGED:
        try:
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=10, check=True)
        except (OSError, subprocess.SubprocessError):
            return set()
        changed.update(done.stdout.splitlines())
    return changed


def names_of(path: str) -> set[str]:
    """What a test contains when it is about the file `path`: its module and package, or the name of any other file."""
    parts = Path(path).with_suffix("").parts
    if not path.endswith(".py"):
        return {Path(path).name}
    if parts[0] == "tests":
        return {parts[-1]}
    module = parts if parts[0] == "argosy" else ("argosy", *parts) if parts[0] in INSTALLED else parts[-1:]
    package = module[:-1] if len(module) > 2 else module  # also that of `__init__`
    return {".".join(package)} if module[-1] == "__init__" else {".".join(module), ".".join(package)}


def mentioned(test: Path) -> set[str]:
    """The modules that a test file imports, and the last parts of the paths that it spells."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(test.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            found.add(node.value.rpartition("/")[2])
    return found


def next_to(tests: Iterable[Path], changed: Iterable[str], root: Path) -> set[Path]:
    """Those of `tests` that changed or mention a changed file."""
    changed = set(changed)
    names = set().union(*map(names_of, changed))
    return {test for test in tests if test.relative_to(root).as_posix() in changed or names & mentioned(test)}


def ordered(tests: Sequence[Path], first: set[Path], root: Path) -> list[Path]:
    """`tests` with `first` ahead, each part by folder, otherwise as they were."""

    def rank(test: Path) -> tuple[bool, int]:
        parts = test.relative_to(root / "tests").parts if test.is_relative_to(root / "tests") else ("",)
        return test not in first, FOLDERS.index(parts[0]) if parts[0] in FOLDERS else len(FOLDERS)

    return sorted(tests, key=rank)
