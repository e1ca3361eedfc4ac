"""The CPU targets: this machine's processor, and a table of others."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.compiler.targets.cpu.processors import PROCESSORS, Processor
from argosy.compiler.targets.entry import TargetEntry
from argosy.dist.cpu_features import host_features
from argosy.quant.scheme import Scheme
from argosy.support.checks import Check
from argosy.support.progress import Progress

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord


def _recommended_activations(scheme: Scheme) -> str:
    return scheme.activations


def _half_precision(scheme: Scheme) -> str:
    return "f16"


_OPTIONS = {"activations": _recommended_activations, "kv": _half_precision}


def _resolve_host(scheme: str, settings: Mapping[str, str]) -> TargetRecord:
    from argosy.compiler.targets.cpu.target import cpu_target

    return cpu_target(settings["activations"], settings["kv"])


def _resolve(processor: Processor, scheme: str, settings: Mapping[str, str]) -> TargetRecord:
    from argosy.compiler.targets.cpu.target import processor_target

    return processor_target(processor, settings["activations"], settings["kv"])


def _prepare(arch: str | None, progress: Progress) -> None:
    """Find a linker for `arch` (None: this machine's)."""
    from argosy.compiler.targets.cpu.link import find_linker

    find_linker(arch)


def _host_key() -> list[str]:
    """Return what LLVM derives this machine's processor and features from, read without LLVM, which is slow to load."""
    model = ""
    with contextlib.suppress(OSError):
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), "")
    return [platform.platform(), platform.processor(), model, *sorted(host_features() or ())]


def _system_key() -> list[str]:
    """Return what the triple is derived from; a processor's row is among the sources of the compiler."""
    return [platform.system(), platform.machine()]


def _checks() -> Iterable[Check]:
    from argosy.compiler.targets.cpu.checks import linker_checks

    return linker_checks()


def _entry(processor: Processor) -> TargetEntry:
    return TargetEntry(
        name=processor.name,
        summary=processor.summary,
        device="cpu",
        resolve=functools.partial(_resolve, processor),
        prepare=functools.partial(_prepare, processor.arch),
        options=_OPTIONS,
        machine_key=_system_key,
        runs_here=processor.runs_here,
    )


CPU_ENTRIES = (
    TargetEntry(
        name="cpu",
        summary="this machine's processor, with every instruction that it has",
        device="cpu",
        resolve=_resolve_host,
        prepare=functools.partial(_prepare, None),
        options=_OPTIONS,
        machine_key=_host_key,
        runs_here=lambda: True,
        checks=_checks,
    ),
    *map(_entry, PROCESSORS.values()),
)
