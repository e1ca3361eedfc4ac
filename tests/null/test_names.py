"""A public name means one thing in the whole tree, and docstrings are written as sentences."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("argosy", "model_defs", "quant", "compiler", "dist", "runtime_bindings", "benchmarks", "docs", "tests")
UNTRACKED = {"out", "node_modules", "build"}
INSTALLED = FOLDERS[:6]
CAMEL_CASE = re.compile(r"[A-Z]+[a-z][A-Za-z0-9]*")
# The dialect this tree was once written in: "A path goes in, a checkpoint comes out."
IN_AND_OUT = re.compile(r"\bgo(?:es)? in\b.*\bcomes? out\b", re.DOTALL)


def modules(folders: tuple[str, ...]) -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the syntax tree of every module below `folders`."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT)
            if not UNTRACKED & set(name.parts):
                yield name.as_posix(), ast.parse(path.read_text("utf-8"))


def defined_names(module: ast.Module) -> Iterator[str]:
    """Yield the public classes and type aliases that a module defines."""
    for node in module.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            yield from (name for name in names if CAMEL_CASE.fullmatch(name))


def test_no_two_classes_or_aliases_share_a_name() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, module in modules(INSTALLED):
        for name in defined_names(module):
            places[name].append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_docstring_says_what_goes_in_and_comes_out() -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [
        f"{path}:{getattr(node, 'lineno', 1)}"
        for path, module in modules(FOLDERS)
        for node in ast.walk(module)
        if isinstance(node, documented) and IN_AND_OUT.search(ast.get_docstring(node) or "")
    ]
    assert found == []


def test_variables_have_telling_names() -> None:
    found = []
    for path, module in modules(FOLDERS):
        for node in ast.walk(module):
            name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else ""
            if name in ("each", "of", "wishes") or name.endswith("_wishes"):
                found.append(f"{path}:{node.lineno} {name}")
    assert found == []
