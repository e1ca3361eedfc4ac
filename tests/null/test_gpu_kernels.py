"""GPU kernels read capabilities: nothing in them knows which target they are compiled for."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from argosy.compiler.targets.table import TARGETS

FOLDER = Path(__file__).resolve().parents[2] / "compiler" / "kernels" / "gpu"
MODULES = sorted(FOLDER.rglob("*.py"))
KINDS = {"webgpu", "cuda", "metal", "vulkan", "opencl", "rocm"}  # names that TVM has for kinds of GPUs


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_kernel_asks_for_a_target(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None)
            assert not any("target" in name.lower() for name in [*names, module or ""]), f"{path}:{node.lineno}"
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("target", "Target"), f"{path}:{node.lineno}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in TARGETS.keys() | KINDS, f"{path}:{node.lineno}"


def test_there_are_kernels() -> None:
    assert len(MODULES) > 15
