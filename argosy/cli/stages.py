"""Define the options of `build`, `convert`, `config` and `compile`, run the build, and summarize it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from argosy.cli import console
from argosy.cli.base import Choice, Choices, ModelName
from argosy.cli.sign import open_key

if TYPE_CHECKING:
    from argosy.build import BuildReport, Stage
    from argosy.support.progress import Progress, Unit


def _targets() -> Iterable[str]:
    from argosy.compiler.targets import TARGETS

    return TARGETS


def _schemes() -> Iterable[str]:
    from argosy.quant.scheme import SCHEMES

    return SCHEMES


_POSITIVE = click.IntRange(min=1)

OPTIONS: dict[str, Callable[[Any], Any]] = {
    "model": click.option(
        "--model", "-m", type=ModelName(), required=True, metavar="M",
        help="A Hugging Face directory or id, a GGUF file, or a name of `argosy list models`.",
    ),
    "target": click.option(
        "--target", "-t", "targets", type=Choices("target", _targets), default="cpu", show_default=True,
        metavar="T[,T]", help="Compile a library for each of these targets; see `argosy list targets`.",
    ),
    "quantization": click.option(
        "--quantization", "-q", type=Choice("quantization scheme", _schemes), default=None,
        metavar="Q",
        help="Store weights in this scheme; see `argosy list schemes`.  [default: q4f16_1; keep for the demo model on "
        "CPUs]",
    ),
    "rounding": click.option(
        "--rounding", type=click.Choice(["full", "rtn"]), default="full", show_default=True,
        help="full uses every level of a group; rtn rounds to nearest, like MLC. The layout is the same.",
    ),
    "context_window": click.option(
        "--context-window", "-c", type=_POSITIVE, metavar="N",
        help="Longest conversation, in tokens.  [default: the model's limit, at most 8192]",
    ),
    "prefill_chunk": click.option(
        "--prefill-chunk", type=_POSITIVE, metavar="N",
        help="Tokens of a prompt to read in one step; more is faster and takes more memory.  [default: 512]",
    ),
    "max_batch": click.option(
        "--max-batch", type=_POSITIVE, metavar="N", help="Most sequences that run at once.  [default: 8]",
    ),
    "activations": click.option(
        "--activations", type=click.Choice(["int8", "int16", "f32"]),
        help="On CPUs, how inputs are rounded before they are multiplied with matrices of 4 and 8 bits: in groups of "
        "32, more finely, or not at all, from fast to slow.  [default: int8; int16 for q8f16_1 and keep]",
    ),
    "kv": click.option(
        "--kv", type=click.Choice(["f16", "f32"]),
        help="On CPUs, how the cache stores keys and values; f32 is exact and takes twice the memory.  [default: f16]",
    ),
    "output": click.option(
        "--output", "-o", type=click.Path(path_type=Path), metavar="DIR",
        help="Build into DIR.  [default: <model>-<scheme> in the user's store, or in dist/out/ in a checkout]",
    ),
    "sign": click.option(
        "--sign", type=click.Path(path_type=Path), metavar="KEY",
        help="Sign the artefact with this secret key (see `argosy sign`). What the key has not signed before is built "
        "anew.",
    ),
    "force": click.option(
        "--force", is_flag=True, help="Redo what is up to date as well, and replace a build with other options.",
    ),
    "debug_dump": click.option(
        "--debug-dump", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Write the IR after each phase and pass, timings, and the generated source to DIR.",
    ),
    "as_json": click.option("--json", "as_json", is_flag=True, help="Print a JSON report on stdout."),
}  # fmt: skip


def options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that adds the named rows of `OPTIONS`, in this order."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            function = OPTIONS[name](function)
        return function

    return wrap


def run(stages: Sequence[Stage], as_json: bool, sign: Path | None = None, **choices: Any) -> None:
    """Build `stages` with the choices of the command line, and print a report."""
    report = build_stages(stages, sign, **choices)
    if as_json:
        console.data_json(dataclasses.asdict(report) | {"directory": str(report.directory)})
    else:
        _summarize(report)


def build_stages(stages: Sequence[Stage], sign: Path | None = None, **choices: Any) -> BuildReport:
    """Build `stages` with the choices of the command line, with progress and notes on stderr."""
    from argosy.support.interrupts import ctrl_c_deferred

    with ctrl_c_deferred():  # NumPy starts threads
        from argosy.build import BuildRequest, build
        from argosy.support.progress import open_progress

    request = BuildRequest(**choices | {"quantization": _scheme(**choices)})
    key = None if sign is None else open_key(sign)
    with stoppable() as signals, open_progress() as progress:
        report = build(request, Stopping(progress, signals), stages, key)
    for note in report.notes:
        console.say(f"note: {note}")
    return report


def _scheme(
    model: str, quantization: str | None = None, targets: Sequence[str] = ("cpu",), **others: object
) -> str:
    """Return the scheme that was chosen, or the one to build the model in if none was."""
    from argosy.dist.catalogue import scheme_for

    return quantization or scheme_for(model, ",".join(targets))


@dataclasses.dataclass(slots=True)
class Signals:
    """Whether this process received a signal to stop."""

    stop: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stopping:
    """Progress that raises KeyboardInterrupt once a signal to stop has arrived.

    A KeyboardInterrupt inside a destructor or a callback of the compiler is lost; the next report raises it again.
    """

    progress: Progress
    signals: Signals

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        """Report to `progress`, or raise KeyboardInterrupt."""
        if self.signals.stop:
            raise KeyboardInterrupt
        self.progress.report(stage, done, total, unit)


@contextlib.contextmanager
def stoppable() -> Iterator[Signals]:
    """Make SIGINT and SIGTERM end the block with KeyboardInterrupt, so that unfinished files are removed.

    The compiler's C++ turns a KeyboardInterrupt into another error; it is turned back here. A signal that this process
    was started to ignore, as shells do for background jobs, stays ignored.
    """
    signals = Signals()

    def stop(number: int, frame: object) -> None:
        signals.stop = True
        raise KeyboardInterrupt

    handled = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in handled}
    try:
        yield signals
    except Exception as error:
        if signals.stop:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summarize(report: BuildReport) -> None:
    from argosy.dist.manifest import read_manifest
    from argosy.dist.store import shortest_name
    from argosy.support.text import human_size, human_time

    rows = [
        (
            f"library {stage.target}" if stage.target and len(report.targets) > 1 else stage.stage,
            "up to date" if stage.skipped else human_time(stage.seconds),
            human_size(stage.nbytes),
            _files(stage.files),
        )
        for stage in report.stages
    ]
    rows.append(
        (
            "",
            human_time(report.seconds),
            human_size(sum(stage.nbytes for stage in report.stages)),
            f"{report.directory}{os.sep}",
        )
    )
    console.table(("stage", "time", "size", "files"), rows)
    if report.complete:
        use, target = ("web", report.targets[0]) if _for_browsers(report) else ("chat", "cpu")
        then = shlex.join(["argosy", use, shortest_name(report.directory, target)])
        console.say("\nnext: ", console.styled(then, bold=True))
    else:
        manifest = read_manifest(report.directory)
        missing = manifest.build_command(report.directory, ",".join(report.targets))
        console.say("\nnot complete yet, next: ", console.styled(missing, bold=True))


def _for_browsers(report: BuildReport) -> bool:
    """Return whether everything that was built is for browsers."""
    from argosy.dist.manifest import read_manifest

    libraries = read_manifest(report.directory).libraries
    return all(libraries[name].target.host.for_browsers for name in report.targets)


def _files(names: Sequence[str]) -> str:
    """Name the files of a stage, counting shards."""
    shards = [name for name in names if name.startswith("params_shard_")]
    others = [name for name in names if name not in shards]
    return ", ".join([*others, *([f"{len(shards)} shards"] if shards else [])])
