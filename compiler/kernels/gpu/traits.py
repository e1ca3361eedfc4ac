"""What a GPU can do: the numbers that tile sizes and launches are chosen from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuTraits:
    """Limits and abilities that every device of a target has.

    Kernels read these and never a target's name. Functions beside each kernel choose its tiles from them, so a target
    is described by one value of this class.
    """

    threads: int
    """Threads of a workgroup, at most."""
    shared_bytes: int
    """Memory that a workgroup shares, at most."""
    grid: int
    """Workgroups along x, at most. Kernels launch few along y: as many as there are tokens or sequences."""
    binding: int
    """Bytes of one tensor that a kernel can address, at most."""
    subgroup: int | None = None
    """Threads that shuffle values among each other; None where the width is unknown, and subgroups are not used."""
    vector: int = 1
    """32-bit elements that one load can move."""
    f16: bool = False
    """Whether kernels can load, store and compute 16-bit floats."""
    int8_dot: bool = False
    """Whether one instruction multiplies and sums four pairs of bytes."""
    matrix_unit: str | None = None
    """The kind of matrix unit (`wmma`, `simdgroup`, ...), if there is one."""
    int64: bool = False
    """Whether kernels can compute with 64-bit integers."""

    def tvm_limits(self) -> dict[str, int]:
        """Return the attributes of a TVM target that state these limits, which its own schedule rules read."""
        limits = {"max_num_threads": self.threads, "max_shared_memory_per_block": self.shared_bytes}
        return limits if self.subgroup is None else limits | {"thread_warp_size": self.subgroup}

    def fits(self, threads: int, shared_bytes: int, workgroups: int = 1) -> bool:
        """Return whether `workgroups` workgroups of that size share the threads and the memory of one."""
        return threads * workgroups <= self.threads and shared_bytes * workgroups <= self.shared_bytes


def power_of_two_up_to(limit: int) -> int:
    """Return the largest power of two that is at most `limit`."""
    return 1 << (limit.bit_length() - 1)
