"""What the compiler knows of a target: a frozen record of capabilities, which code asks instead of a name."""

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
    """A device family to compile for.

    `device` is the kind of device whose runtime drives it. `activation_dtype` is what the graph computes in, `kv_dtype`
    what the cache keeps keys and values in, `activations` what quantized matrices are multiplied with, `linear` how;
    `features` the instruction sets that a library for this target needs, as LLVM spells them; `converts_halves` whether
    some of them convert 16-bit floats to 32 bits and back; `package` links an executable into a file.

    `cache` makes the kernels of the KV cache; `schedule` are the passes that give loops to what no kernel of ours
    computes. `gpu` is what a GPU of this family can do. `one_graph`: decoding runs the functions of prefill, so that
    both share their kernels; `samples`: the library brings functions that sample on the device.
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

    def describe(self) -> dict[str, object]:
        """The part of the record that a library's metadata carries."""
        described: dict[str, object] = {"name": self.name, "device": self.device, "triple": self.triple}
        return described | {"cpu": self.cpu, "features": list(self.features)}
