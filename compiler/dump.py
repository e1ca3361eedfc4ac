"""Write what `--debug-dump DIR` shows: the IR after each phase and each pass, timings, and the generated source."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import tvm
from tvm.ir.instrument import PassInstrument, pass_instrument


class Dump:
    """Write one file for each phase into `directory` and one for each pass into its folder `passes`.

    Without a directory, nothing is written. Files of an earlier dump are removed.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.count = self.pass_count = 0
        self.pass_seconds: dict[str, dict[str, float]] = {}
        if directory is not None:
            self.passes = directory / "passes"
            self.passes.mkdir(parents=True, exist_ok=True)
            for old in [*directory.glob("[0-9][0-9]-*"), *self.passes.glob("[0-9][0-9]-*")]:
                old.unlink()

    def module(self, phase: str, mod: tvm.IRModule) -> None:
        """Write the IRModule as it stands after `phase`, as TVMScript."""
        self._write(phase, "py", lambda: mod.script(show_meta=False))

    def source(self, name: str, text: str) -> None:
        """Write generated LLVM IR."""
        self._write(name, "ll", lambda: text)

    def timings(self, seconds: dict[str, float]) -> None:
        """Write the seconds of each phase, and of the passes in it."""
        if self.directory is not None:
            phases = {
                name: {"seconds": spent, "passes": self.pass_seconds.get(name, {})} for name, spent in seconds.items()
            }
            (self.directory / "timings.json").write_text(json.dumps(phases, indent=2) + "\n")

    def instruments(self, phase: str) -> list[PassInstrument]:
        """Return the instruments that write and time the passes of `phase`."""
        return [] if self.directory is None else [_PassDump(self, phase)]

    def after_pass(self, phase: str, name: str, seconds: float, mod: tvm.IRModule) -> None:
        """Write the IRModule as one pass of `phase` left it, and note how long the pass took."""
        spent = self.pass_seconds.setdefault(phase, {})
        spent[name] = spent.get(name, 0.0) + seconds
        (self.passes / f"{self.pass_count:02d}-{phase}-{name}.py").write_text(mod.script(show_meta=False))
        self.pass_count += 1

    def _write(self, name: str, suffix: str, text: Callable[[], str]) -> None:
        if self.directory is not None:
            (self.directory / f"{self.count:02d}-{name}.{suffix}").write_text(text())
            self.count += 1


@pass_instrument
class _PassDump:
    """Hands the passes of one phase to a `Dump`: not the phase itself, nor what a pass runs inside."""

    def __init__(self, dump: Dump, phase: str) -> None:
        self.dump, self.phase = dump, phase
        self.started: list[float] = []

    def run_before_pass(self, mod: tvm.IRModule, info: tvm.transform.PassInfo) -> None:
        self.started.append(time.perf_counter())

    def run_after_pass(self, mod: tvm.IRModule, info: tvm.transform.PassInfo) -> None:
        seconds = time.perf_counter() - self.started.pop()
        if len(self.started) == 1:
            self.dump.after_pass(self.phase, str(info.name).rpartition(".")[2], seconds, mod)
