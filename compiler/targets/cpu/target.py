"""The target `cpu`: the machine at hand, with exactly the instructions that it has."""

from __future__ import annotations

import tvm
from tvm.target import codegen

from argosy.compiler.kernels.linear import LinearPlan, TileShape
from argosy.compiler.kernels.linear.instruction import best_instruction
from argosy.compiler.targets.cpu.link import package
from argosy.compiler.targets.record import TargetRecord
from argosy.dist.cpu_features import CHECKED, host_features


KV_DTYPES = {"f16": "float16", "f32": "float32"}


def cpu_target(activations: str, kv: str) -> TargetRecord:
    """The record of the CPU that this runs on; `activations` and `kv` as `target_named` says.

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
        kv_dtype=KV_DTYPES[kv],
        activations=activations,
        linear=linear_plan(frozenset(usable), exact=activations == "f32"),
        library_suffix=".so",
        package=package,
    )


def linear_plan(features: frozenset[str], exact: bool = False) -> LinearPlan:
    """How a CPU with `features` multiplies; `exact`: in float32 only.

    The heights keep the accumulators of a tile in registers: 32 of them with AVX-512 and on 64-bit ARM, 16 elsewhere.
    """
    many = bool(features & {"avx512f", "neon"})
    exact_tile = TileShape(4 if many else 2, (4, 2, 1))
    if exact:
        return LinearPlan(exact_tile)
    instruction = best_instruction(features)
    heights = (12, 8, 4, 2, 1) if many else (4, 2, 1) if instruction.features else (2, 1)
    return LinearPlan(exact_tile, instruction, TileShape(1, heights))
