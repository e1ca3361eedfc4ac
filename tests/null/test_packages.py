"""The package graph: who may import whom, and what is never loaded by those who only run a model."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "argosy.support": ROOT / "argosy" / "support",
    "argosy.evaluation": ROOT / "argosy" / "evaluation",
    "argosy.bench": ROOT / "argosy" / "bench",
    "argosy.web": ROOT / "argosy" / "web",
    "argosy.cli": ROOT / "argosy" / "cli",
    "argosy.model_defs": ROOT / "model_defs",
    "argosy.quant": ROOT / "quant",
    "argosy.compiler": ROOT / "compiler",
    "argosy.dist": ROOT / "dist",
    "argosy.runtime_bindings": ROOT / "runtime_bindings",
}
# What each package may import; modules right below `argosy` (build, doctor, ...) and the command line may import all.
ALLOWED = {
    "argosy.support": set(),
    "argosy.quant": {"argosy.support"},
    "argosy.model_defs": {"argosy.support", "argosy.quant"},
    "argosy.compiler": {"argosy.support", "argosy.quant", "argosy.model_defs", "argosy.dist"},
    "argosy.dist": {"argosy.support"},
    "argosy.runtime_bindings": {"argosy.support", "argosy.dist"},
    "argosy.evaluation": set(FOLDERS) - {"argosy.cli", "argosy.bench", "argosy.web"},
    "argosy.web": {"argosy.support", "argosy.dist"},
    "argosy.bench": {"argosy.support", "argosy.dist", "argosy.runtime_bindings"},
}
HEAVY = {"torch", "transformers"}


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere, lazily or not; `from a import b` counts as `a.b` and as `a`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: a relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def packages_of(folder: Path) -> set[str]:
    """The packages of ours that the files below `folder` import."""
    files = [path for path in folder.rglob("*.py") if "out" not in path.relative_to(folder).parts]
    modules = {module for path in files for module in imported(path)}
    return {package for package in FOLDERS for module in modules if f"{module}.".startswith(f"{package}.")}


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert packages_of(FOLDERS[package]) - {package} <= ALLOWED[package]


def test_the_package_graph_has_no_cycle() -> None:
    graph = {package: packages_of(folder) - {package} for package, folder in FOLDERS.items()}
    done: set[str] = set()
    while ready := [package for package in graph if package not in done and graph[package] <= done]:
        done |= set(ready)
    assert done == set(graph), f"a cycle among {set(graph) - done}"


def test_every_folder_with_code_is_a_package_that_gets_installed() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    folders = {path.parent for folder in FOLDERS.values() for path in folder.rglob("*.py")}
    for folder in folders:
        parts = folder.relative_to(ROOT).parts
        name = ".".join(parts if parts[0] == "argosy" else ("argosy", *parts))
        assert f'"{name}"' in text, f"{name} is missing in pyproject.toml"


@pytest.mark.parametrize("package", ["argosy.dist", "argosy.runtime_bindings", "argosy.support", "argosy.quant"])
def test_what_runs_a_model_never_imports_torch(package: str) -> None:
    for path in FOLDERS[package].rglob("*.py"):
        assert not {module.partition(".")[0] for module in imported(path)} & HEAVY, path


def loaded_by(statement: str) -> set[str]:
    """The modules in memory of a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_import_argosy_is_light_and_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; import argosy"
    loaded = loaded_by(code)
    assert not loaded & {"tvm", "tvm_ffi", "numpy", "tokenizers", "argosy.compiler", "argosy.model_defs"}


def test_help_loads_neither_tvm_nor_rich() -> None:
    code = "from argosy.cli.app import cli\ntry:\n    cli.main(['--help'], prog_name='argosy')\nexcept SystemExit: pass"
    assert not loaded_by(code) & {"tvm", "tvm_ffi", "numpy", "rich.console", "argosy.compiler", "gguf"}


def test_the_runtime_loads_neither_compiler_nor_torch() -> None:
    code = "import argosy.dist.artefact, argosy.runtime_bindings.engine.loading as loading\nloading.load_tvm()"
    loaded = loaded_by(code)
    assert "tvm" in loaded
    assert not {name for name in loaded if name.startswith(("argosy.compiler", "argosy.quant", "argosy.model_defs"))}
    assert "torch" not in loaded


def test_all_packages_can_be_found() -> None:
    for package in FOLDERS:
        assert importlib.util.find_spec(package) is not None, package
