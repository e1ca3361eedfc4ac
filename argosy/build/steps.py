"""Run one step of a build, unless it is up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.build.request import BuildRequest, Stage

if TYPE_CHECKING:
    from argosy.build.recipe import BuildRecipe
    from argosy.dist.build_directory import BuildDirectory
    from argosy.dist.manifest import Manifest, StageRecord
    from argosy.support.progress import Progress


@dataclass(frozen=True, slots=True)
class BuildStep:
    """How a stage is keyed, run, and found in the manifest; `target` names the one a library is for.

    `run` receives the key to record, and returns the seconds of its parts where it has some.
    """

    stage: Stage
    key: Callable[[BuildRecipe], str]
    run: Callable[[BuildRecipe, BuildDirectory, str, BuildRequest, Progress], Mapping[str, float] | None]
    record: Callable[[Manifest], StageRecord | None]
    target: str | None = None


@dataclass(frozen=True, slots=True)
class StageReport:
    """The outcome of a step: its duration, and the names and total size of its files.

    `phases` are the seconds of its parts, for a library that was compiled.
    """

    stage: Stage
    seconds: float
    skipped: bool
    nbytes: int
    files: tuple[str, ...]
    target: str | None = None
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The outcome of a build. `complete`: the directory has weights, config and a library for each target.

    A report is a path as well, that of the directory: `ChatModule(report)` loads what was built.
    """

    directory: Path
    model: str
    scheme: str
    targets: tuple[str, ...]
    stages: tuple[StageReport, ...]
    seconds: float
    complete: bool
    notes: tuple[str, ...]

    def __fspath__(self) -> str:
        return str(self.directory)


def run_step(
    step: BuildStep, recipe: BuildRecipe, directory: BuildDirectory, request: BuildRequest, progress: Progress
) -> StageReport:
    """Run `step` in `directory`, unless its files are there and were made from the same inputs."""
    started = time.perf_counter()
    key = step.key(recipe)
    must = request.force or (step.stage == "library" and request.debug_dump is not None)
    record = step.record(directory.manifest)
    skipped = not must and directory.is_current(record, key)
    phases = None if skipped else step.run(recipe, directory, key, request, progress)
    manifest = directory.manifest
    record = step.record(manifest)
    files = record.files if record else ()
    nbytes = sum(manifest.files[name].bytes for name in files)
    seconds = time.perf_counter() - started
    return StageReport(step.stage, seconds, skipped, nbytes, files, step.target, phases or {})
