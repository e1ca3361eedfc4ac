"""Make the records of CPU targets: of this machine, and of the rows of the table of processors."""

from __future__ import annotations

import functools

import tvm
from tvm.target import codegen

from argosy.compiler.kernels.cpu.attention.cache import CPU_KERNELS
from argosy.compiler.kernels.cpu.linear import CpuLinearPlan, TileShape
from argosy.compiler.kernels.cpu.linear.instruction import best_instruction
from argosy.compiler.passes.soften_halves import SoftenHalves
from argosy.compiler.schedule.cpu import ScheduleCpu
from argosy.compiler.targets.cpu.link import package
from argosy.compiler.targets.cpu.processors import Processor
from argosy.compiler.targets.record import TargetRecord
from argosy.dist.cpu_features import CHECKED, architecture, host_features
from argosy.dist.triples import parse_triple

KV_DTYPES = {"f16": "float16", "f32": "float32"}
HALF_CONVERSIONS = frozenset({"f16c", "neon"})  # any of these converts vectors of 16-bit floats


def cpu_target(activations: str, kv: str) -> TargetRecord:
    """Return the record of this machine's CPU; for `activations` and `kv` see `target_named`.

    LLVM derives instruction sets from the processor's name. A virtual machine may hide some that every processor of
    that name has, so those are switched off again.
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
    return _record("cpu", config, frozenset(usable), activations, kv)


def processor_target(processor: Processor, activations: str, kv: str) -> TargetRecord:
    """Return the record of a row of the table: for this system if the architecture is the same, else for Linux."""
    here = processor.arch == architecture()
    config: dict[str, object] = {
        "kind": "llvm",
        "mcpu": processor.cpu,
        "mtriple": codegen.llvm_get_system_triple() if here else f"{processor.arch}-linux-gnu",
    }
    if processor.attributes:
        config["mattr"] = list(processor.attributes)
    return _record(processor.name, config, processor.features, activations, kv)


def _record(name: str, config: dict[str, object], features: frozenset[str], activations: str, kv: str) -> TargetRecord:
    triple = str(config["mtriple"])
    converts_halves = bool(features & HALF_CONVERSIONS)
    return TargetRecord(
        name=name,
        device="cpu",
        tvm_target=tvm.target.Target(config),
        triple=triple,
        cpu=str(config["mcpu"]),
        features=tuple(sorted(features)),
        converts_halves=converts_halves,
        activation_dtype="float32",
        kv_dtype=KV_DTYPES[kv],
        activations=activations,
        linear=linear_plan(features, activations),
        cache=CPU_KERNELS,
        schedule=(ScheduleCpu(),) if converts_halves else (ScheduleCpu(), SoftenHalves()),
        library_suffix=parse_triple(triple).library_suffix,
        package=functools.partial(package, triple=triple),
    )


def linear_plan(features: frozenset[str], activations: str = "int8") -> CpuLinearPlan:
    """Choose how a CPU with `features` multiplies; for `activations` see `target_named`.

    The heights keep the accumulators of a tile in registers: 32 of them with AVX-512 and on 64-bit ARM, 16 elsewhere.
    """
    many = bool(features & {"avx512f", "neon"})
    exact_tile = TileShape(4 if many else 2, (4, 2, 1))
    if activations == "f32":
        return CpuLinearPlan(exact_tile)
    instruction = best_instruction(features)
    heights = (12, 8, 4, 2, 1) if many else (4, 2, 1) if instruction.features else (2, 1)
    return CpuLinearPlan(exact_tile, instruction, TileShape(1, heights), planes=2 if activations == "int16" else 1)
