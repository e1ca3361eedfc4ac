"""What `--debug-dump DIR` writes: the IR after each phase, numbered in order, and the generated source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tvm


class Dump:
    """Writes one file for each phase into a folder, or nothing at all where no folder is given."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.count = 0
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            for old in directory.glob("[0-9][0-9]-*"):
                old.unlink()

    def module(self, phase: str, mod: tvm.IRModule) -> None:
        """The IRModule as it stands after `phase`, as TVMScript."""
        self._write(phase, "py", lambda: mod.script(show_meta=False))

    def source(self, name: str, text: str) -> None:
        """Generated source."""
        self._write(name, "ll", lambda: text)

    def _write(self, name: str, suffix: str, text) -> None:
        if self.directory is not None:
            (self.directory / f"{self.count:02d}-{name}.{suffix}").write_text(text())
            self.count += 1
