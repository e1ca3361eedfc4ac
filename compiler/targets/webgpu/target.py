"""The WebGPU target: a quantization scheme goes in, the `TargetRecord` of the library for browsers comes out.

It assumes what the standard promises of every adapter: 256 threads and 32 KB of shared memory to a workgroup, and
nothing of subgroups. Schemes of 16-bit floats also need the feature `shader-f16`.
"""

from __future__ import annotations

import tvm
from tvm import relax

from argosy.compiler.kernels.gpu.attention.cache import GPU_KERNELS
from argosy.compiler.kernels.gpu.linear import GpuLinearPlan
from argosy.compiler.schedule.gpu import ScheduleGpu
from argosy.compiler.targets.record import TargetRecord
from argosy.compiler.targets.webgpu.fixups import FIXUPS
from argosy.compiler.targets.webgpu.schemes import DTYPES

HOST = "wasm32-unknown-unknown-wasm"
THREADS = 256
SHARED_BYTES = 32 << 10


def webgpu_target(scheme: str) -> TargetRecord:
    """The record for models stored by `scheme`, which is one of `DTYPES`: it computes and caches in that dtype."""
    from argosy.compiler.targets.webgpu.package import package

    dtype = DTYPES[scheme]
    halves = dtype == "float16"
    config = {
        "kind": "webgpu",
        "max_num_threads": THREADS,
        "max_shared_memory_per_block": SHARED_BYTES,
        "host": {"kind": "llvm", "mtriple": HOST, "vector-width": 128},
    }
    return TargetRecord(
        name="webgpu",
        device="webgpu",
        tvm_target=tvm.target.Target(config),
        triple=HOST,
        cpu="",
        features=("shader-f16",) if halves else (),
        converts_halves=True,
        activation_dtype=dtype,
        kv_dtype=dtype,
        activations="f16" if halves else "f32",
        linear=GpuLinearPlan(dtype, frozenset({"f32", "f16", "int4_f16", "int4_f32"})),
        cache=GPU_KERNELS,
        # Views are recognised before their loops are scheduled; what computed them is then not used any more.
        schedule=(
            relax.transform.RewriteDataflowReshape(),
            relax.transform.DeadCodeElimination(),
            ScheduleGpu(),
            *FIXUPS,
        ),
        library_suffix=".wasm",
        package=package,
        one_graph=True,
        samples=True,
    )
