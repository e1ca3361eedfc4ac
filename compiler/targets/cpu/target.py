"""The target `cpu`: the machine at hand, with exactly the instructions that it has."""

from __future__ import annotations

import tvm
from tvm.target import codegen

from argosy.compiler.kernels.linear import TileShape
from argosy.compiler.targets.cpu.link import package
from argosy.compiler.targets.record import TargetRecord
from argosy.dist.cpu_features import CHECKED, host_features


def cpu_target() -> TargetRecord:
    """The record of the CPU that this runs on.

    LLVM knows the processor by its name; a virtual machine may hide instructions that every processor of that name has,
    so those are switched off again.
    """
    cpu, triple = codegen.llvm_get_system_cpu(), codegen.llvm_get_system_triple()
    named = {
        str(feature) for feature in codegen.llvm_get_cpu_features(tvm.target.Target({"kind": "llvm", "mcpu": cpu}))
    }
    relevant = sorted(named & CHECKED)
    known = host_features()
    present = frozenset(relevant) if known is None else known
    usable = [feature for feature in relevant if feature in present]
    hidden = [f"-{feature}" for feature in relevant if feature not in present]
    config: dict[str, object] = {"kind": "llvm", "mcpu": cpu, "mtriple": triple}
    if hidden:
        config["mattr"] = hidden
    return TargetRecord(
        name="cpu",
        summary="this machine's processor",
        tvm_target=tvm.target.Target(config),
        triple=triple,
        cpu=cpu,
        features=tuple(usable),
        activation_dtype="float32",
        linear_tile=TileShape(4, (4, 2, 1)) if "avx512f" in usable else TileShape(2, (4, 2, 1)),
        library_suffix=".so",
        package=package,
    )
