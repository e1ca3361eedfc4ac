"""The WebGPU target: what the compiler assumes of every browser with WebGPU, and how libraries for them are made."""

from __future__ import annotations

import dataclasses

import tvm
from tvm import relax

from argosy.compiler.kernels.gpu.attention.cache import gpu_kernels
from argosy.compiler.kernels.gpu.linear import GpuLinearPlan
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.schedule.gpu import ScheduleGpu
from argosy.compiler.targets.record import TargetRecord
from argosy.compiler.targets.webgpu.fixups import FIXUPS
from argosy.compiler.targets.webgpu.schemes import DTYPES, HALVES, LARGEST_BINDING

HOST = "wasm32-unknown-unknown-wasm"


def webgpu_traits(f16: bool) -> GpuTraits:
    """Return what the JavaScript runtime requires of every adapter; 16-bit floats are the feature `shader-f16`.

    Adapters do not report the width of a subgroup reliably, WGSL has no 64-bit integers, and TVM prints neither its
    byte dot products nor loads of vectors.
    """
    return GpuTraits(
        threads=256,
        shared_bytes=32 << 10,
        grid=2**31 - 1,  # beyond 65535, TVM continues x along z
        binding=LARGEST_BINDING,
        f16=f16,
    )


def webgpu_target(scheme: str) -> TargetRecord:
    """Return the record for models stored by `scheme`, one of `DTYPES`, which says what they compute and cache in."""
    return _record("webgpu", DTYPES[scheme])


def webgpu_f32_target(scheme: str) -> TargetRecord:
    """Return the record of adapters without 16-bit floats; weights that are stored in them are widened when loaded."""
    return dataclasses.replace(_record("webgpu-f32", "float32"), widens=scheme in HALVES)


def _record(name: str, dtype: str) -> TargetRecord:
    from argosy.compiler.targets.webgpu.package import package

    halves = dtype == "float16"
    traits = webgpu_traits(halves)
    config = {
        "kind": "webgpu",
        **traits.tvm_limits(),
        "host": {"kind": "llvm", "mtriple": HOST, "vector-width": 128},
    }
    return TargetRecord(
        name=name,
        device="webgpu",
        tvm_target=tvm.target.Target(config),
        triple=HOST,
        cpu="",
        features=("shader-f16",) if halves else (),
        converts_halves=True,
        activation_dtype=dtype,
        kv_dtype=dtype,
        activations="f16" if halves else "f32",
        linear=GpuLinearPlan(traits, dtype, frozenset({"f32", "f16", "int4_f16", "int4_f32"})),
        cache=gpu_kernels(traits),
        # Views are recognised by their loops, so before those are scheduled; what computed them is then unused.
        schedule=(
            relax.transform.RewriteDataflowReshape(),
            relax.transform.DeadCodeElimination(),
            ScheduleGpu(),
            *FIXUPS,
        ),
        library_suffix=".wasm",
        package=package,
        gpu=traits,
        one_graph=True,
        samples=True,
    )
