"""What each package and each module may import, and what a program that only runs a model never loads."""

from __future__ import annotations

import ast
import importlib.util
import runpy
import subprocess
import sys
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "argosy.support": ROOT / "argosy" / "support",
    "argosy.build": ROOT / "argosy" / "build",
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
# What each package, and each module directly below `argosy`, may import of ours.
ALLOWED = {
    "argosy.support": set(),
    "argosy.quant": {"argosy.support"},
    "argosy.model_defs": {"argosy.support", "argosy.quant"},
    "argosy.compiler": {"argosy.support", "argosy.quant", "argosy.model_defs", "argosy.dist"},
    "argosy.dist": {"argosy.support"},
    "argosy.runtime_bindings": {"argosy.support", "argosy.dist"},
    "argosy": {"argosy.support", "argosy.runtime_bindings", "argosy.build"},
    "argosy.__main__": {"argosy.cli"},
    "argosy.mlc_template": {"argosy.support", "argosy.dist", "argosy.runtime_bindings"},
    "argosy.turn_end": {"argosy.support", "argosy.mlc_template"},
    "argosy.web": {"argosy.support", "argosy.dist"},
    "argosy.inspection": {"argosy.support", "argosy.dist", "argosy.runtime_bindings"},
    "argosy.listing": {"argosy.support", "argosy.quant", "argosy.model_defs", "argosy.compiler", "argosy.dist"},
    "argosy.doctor": {
        "argosy.support", "argosy.compiler", "argosy.dist", "argosy.runtime_bindings", "argosy.web",
    },
    "argosy.build": {
        "argosy.support", "argosy.quant", "argosy.model_defs", "argosy.compiler", "argosy.dist", "argosy.mlc_template",
        "argosy.turn_end",
    },
    "argosy.bench": {"argosy.support", "argosy.dist", "argosy.runtime_bindings", "argosy.build"},
    "argosy.evaluation": {
        "argosy.support", "argosy.quant", "argosy.model_defs", "argosy.compiler", "argosy.dist",
        "argosy.runtime_bindings", "argosy.build",
    },
}  # fmt: skip
COMMAND_LINE = "argosy.cli"  # may import everything
HEAVY = {"torch", "transformers"}


def imported(path: Path) -> set[str]:
    """The modules that a file imports anywhere, lazily or not; `from a import b` is `a.b` where that is one of ours."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else node.module for name in names}
    return found


@cache
def modules() -> Mapping[str, Path]:
    """The file of every module of ours, by the module's name."""
    found = {f"argosy.{path.stem}": path for path in (ROOT / "argosy").glob("*.py")}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if "out" not in parts and "node_modules" not in parts:
                found[".".join((package, *parts))] = path
    return {name.removesuffix(".__init__"): path for name, path in found.items()}


@cache
def module_graph() -> Mapping[str, set[str]]:
    """The modules of ours that each module imports."""
    return {name: imported(path) & set(modules()) - {name} for name, path in modules().items()}


def package_of(module: str) -> str:
    """The row of `ALLOWED` that holds for a module: its package, or itself directly below `argosy`."""
    return ".".join(module.split(".")[:2])


def package_graph() -> dict[str, set[str]]:
    """The packages, and modules directly below `argosy`, that each of them imports."""
    graph: dict[str, set[str]] = {package_of(module): set() for module in modules()}
    for module, imports in module_graph().items():
        graph[package_of(module)] |= {package_of(other) for other in imports} - {package_of(module)}
    return graph


def in_cycles(graph: Mapping[str, Collection[str]]) -> set[str]:
    """The nodes of `graph` on a cycle, or between two."""
    left = {node: set(edges) for node, edges in graph.items()}
    while ends := [node for node in left if not left[node] or not any(node in edges for edges in left.values())]:
        left = {node: edges - set(ends) for node, edges in left.items() if node not in ends}
    return set(left)


@pytest.mark.parametrize("package", ALLOWED)
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert package_graph()[package] <= ALLOWED[package]


def test_every_package_and_module_has_a_row() -> None:
    assert set(package_graph()) == {*ALLOWED, COMMAND_LINE}


def test_packages_and_modules_import_one_another_without_a_cycle() -> None:
    """Imports inside functions and those for type checkers count as well."""
    assert in_cycles(package_graph()) == set()
    assert in_cycles(module_graph()) == set()


def test_a_cycle_is_found() -> None:
    graph = {"top": {"a"}, "a": {"b"}, "b": {"c", "leaf"}, "c": {"a"}, "leaf": set()}
    assert in_cycles(graph) == {"a", "b", "c"}


def test_every_folder_with_code_is_a_package_that_gets_installed() -> None:
    installed = set(runpy.run_path(str(ROOT / "setup.py"))["packages"]())
    folders = {path.parent.relative_to(ROOT).parts for path in modules().values()}
    assert {".".join(parts if parts[0] == "argosy" else ("argosy", *parts)) for parts in folders} == installed


@pytest.mark.parametrize("package", ["argosy.dist", "argosy.runtime_bindings", "argosy.support", "argosy.quant"])
def test_what_runs_a_model_never_imports_torch(package: str) -> None:
    for path in FOLDERS[package].rglob("*.py"):
        assert not {module.partition(".")[0] for module in imported(path)} & HEAVY, path


def loaded_by(statement: str) -> set[str]:
    """Return the modules that `statement` loads in a fresh interpreter."""
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


def test_kernels_that_all_devices_share_import_none_of_a_device() -> None:
    kernels = "argosy.compiler.kernels"
    common = tuple(f"{kernels}.{part}" for part in ("builder", "linear", "kv"))
    shared = [name for name in modules() if name.startswith(common)]
    devices = tuple(f"{kernels}.{device}" for device in ("cpu", "gpu"))
    assert len(shared) > 5
    assert not [(name, i) for name in shared for i in imported(modules()[name]) if i.startswith(devices)]
