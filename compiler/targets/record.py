"""Define the record of a target's capabilities, which the compiler reads instead of the target's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm

    from argosy.compiler.kernels.gpu.traits import GpuTraits
    from argosy.compiler.kernels.kv.kernels import CacheKernels
    from argosy.compiler.kernels.linear import LinearPlan


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """A family of devices to compile for.

    `device` is the kind of device whose runtime drives a library. `features` are the instruction sets that it needs, as
    LLVM spells them, and `converts_halves` tells whether one of them converts 16-bit floats to 32 bits and back.
    `activation_dtype` is the dtype that the graph computes in, `kv_dtype` that of cached keys and values; `activations`
    is how inputs are rounded before they are multiplied with quantized matrices, and `linear` the kernels that do it.

    `cache` makes the kernels of the KV cache; `schedule` are the passes that schedule what no hand-written kernel
    computes. `gpu` is what a GPU of this family can do. With `one_graph`, decoding runs the functions of prefill, so
    that both share their kernels; with `samples`, the library has functions that sample on the device. `package` links
    an executable into a file with `library_suffix`. With `widens`, all 32-bit floats among the parameters are stored in
    16 bits, and whoever loads the library converts them, which is exact.
    """

    name: str
    device: str
    tvm_target: tvm.target.Target
    triple: str
    cpu: str
    features: tuple[str, ...]
    converts_halves: bool
    activation_dtype: str
    kv_dtype: str
    activations: str
    linear: LinearPlan
    cache: CacheKernels
    schedule: tuple[tvm.transform.Pass, ...]
    library_suffix: str
    package: Callable[[tvm.runtime.Executable, Path], None]
    gpu: GpuTraits | None = None
    one_graph: bool = False
    samples: bool = False
    widens: bool = False

    def describe(self) -> dict[str, object]:
        """Return the part of the record that goes into a library's metadata."""
        described: dict[str, object] = {"name": self.name, "device": self.device, "triple": self.triple}
        return described | {"cpu": self.cpu, "features": list(self.features)}
