"""Compile a model into a library file, which appears whole or not at all."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tvm

from argosy.compiler.bounds import Bounds
from argosy.compiler.check import check_well_formed
from argosy.compiler.dump import Dump
from argosy.compiler.lower import lower, with_metadata
from argosy.compiler.metadata import describe
from argosy.compiler.pipeline import pipeline, run
from argosy.compiler.targets.record import TargetRecord
from argosy.model_defs.networks.network import Network
from argosy.quant.scheme import Format
from argosy.support import env
from argosy.support.files import atomic_path
from argosy.support.interrupts import ctrl_c_kept
from argosy.support.progress import Progress


@dataclass(frozen=True, slots=True)
class CompiledLibrary:
    """A library on disk: the content of its `_metadata()`, and the seconds that each phase took."""

    path: Path
    metadata: Mapping[str, object]
    seconds: Mapping[str, float]


def compile_library(
    network: Network,
    formats: Mapping[str, Format],
    plain: Format,
    target: TargetRecord,
    bounds: Bounds,
    path: Path,
    *,
    quantization: str,
    argosy_version: str,
    abi: int,
    progress: Progress,
    debug_dump: Path | None = None,
) -> CompiledLibrary:
    """Compile `network` for `target` into `path`.

    Raises CompileError if the code generator or the linker fails, or if ARGOSY_CHECK is on and a phase leaves a module
    that is not well formed; TargetError if there is no linker.
    """
    dump, clock = Dump(debug_dump), _Clock()
    phases = pipeline(target)
    steps = ["lower", *(phase.name for phase in phases), "generate", "link"]

    def begin(step: str) -> None:
        progress.report(f"compile for {target.name}", steps.index(step), len(steps))

    with ctrl_c_kept():
        begin("lower")
        mod, parameters = lower(network, formats, plain, target, bounds)
        metadata = describe(network, parameters, target, bounds, quantization, argosy_version, abi)
        mod = with_metadata(mod, json.dumps(metadata))
        clock.lap("lower")
        dump.module("lower", mod)
        if env.CHECK.get():
            check_well_formed(mod, "lower")
        for phase in phases:
            begin(phase.name)
            mod = run(mod, phase, target, dump.instruments(phase.name))
            clock.lap(phase.name)
            dump.module(phase.name, mod)
        begin("generate")
        executable = tvm.compile(mod, target=target.tvm_target, relax_pipeline=tvm.transform.Sequential([]))
        clock.lap("generate")
        _dump_source(dump, executable)
    begin("link")
    with atomic_path(path) as temporary:
        target.package(executable, temporary)
    clock.lap("link")
    dump.timings(clock.seconds)
    progress.report(f"compile for {target.name}", len(steps), len(steps))
    return CompiledLibrary(path, metadata, clock.seconds)


class _Clock:
    """A stop watch: seconds between laps, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = now - self.last
        self.last = now


def _dump_source(dump: Dump, executable: tvm.runtime.Executable) -> None:
    """Write the generated LLVM IR of every module in the executable."""
    if dump.directory is None:
        return
    for module in [executable.mod, *executable.mod.imports]:
        if module.kind == "llvm":
            dump.source("generated", module.inspect_source("ll"))
