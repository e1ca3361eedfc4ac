"""All targets, in the order in which they are listed."""

from __future__ import annotations

from argosy.compiler.targets.cpu.entries import CPU_ENTRIES
from argosy.compiler.targets.entry import TargetEntry
from argosy.compiler.targets.webgpu.entry import WEBGPU, WEBGPU_F32

BROWSER_TARGET = WEBGPU
"""The target of `argosy web`."""

TARGETS: dict[str, TargetEntry] = {
    entry.name: entry
    for entry in (
        *CPU_ENTRIES,
        WEBGPU,
        WEBGPU_F32,
    )
}
