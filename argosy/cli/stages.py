"""What `build`, `convert`, `config` and `compile` share: options go in, a build runs, a table comes out."""

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
from argosy.cli.base import Choice, Choices

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
        "--model", "-m", required=True, metavar="M",
        help="A Hugging Face directory or id, a GGUF file, or a name of `argosy list models`.",
    ),
    "target": click.option(
        "--target", "-t", "targets", type=Choices("target", _targets), default="cpu", show_default=True,
        metavar="T[,T]", help="What to compile for, one library each; see `argosy list targets`.",
    ),
    "quantization": click.option(
        "--quantization", "-q", type=Choice("quantization scheme", _schemes), default="q4f16_1", show_default=True,
        metavar="Q", help="How the weights are stored; see `argosy list schemes`.",
    ),
    "rounding": click.option(
        "--rounding", type=click.Choice(["full", "rtn"]), default="full", show_default=True,
        help="full uses every level of a group; rtn rounds to nearest as MLC does. The layout is the same.",
    ),
    "context_window": click.option(
        "--context-window", type=_POSITIVE, metavar="N",
        help="Tokens a conversation may hold.  [default: the model's, at most 8192]",
    ),
    "prefill_chunk": click.option(
        "--prefill-chunk", type=_POSITIVE, metavar="N",
        help="Tokens read in one step; more is faster and takes more memory.  [default: 512]",
    ),
    "max_batch": click.option(
        "--max-batch", type=_POSITIVE, metavar="N", help="Sequences that may run together.  [default: 8]",
    ),
    "activations": click.option(
        "--activations", type=click.Choice(["int8", "int16", "f32"]),
        help="On CPUs, what matrices of 4 and 8 bits are multiplied with: rounded in groups of 32, finely, or exact, "
        "each slower than the one before.  [default: int8, and int16 for q8f16_1 and keep]",
    ),
    "kv": click.option(
        "--kv", type=click.Choice(["f16", "f32"]),
        help="On CPUs, what the cache keeps keys and values in: f32 takes twice the memory, and is exact.  "
        "[default: f16]",
    ),
    "output": click.option(
        "--output", "-o", type=click.Path(path_type=Path), metavar="DIR",
        help="Where to build.  [default: dist/out/<model>-<scheme> in a checkout, else dist/<model>-<scheme>]",
    ),
    "force": click.option("--force", is_flag=True, help="Do it again even if nothing changed."),
    "debug_dump": click.option(
        "--debug-dump", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Write the IR after each phase and the generated source into DIR.",
    ),
    "as_json": click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON on stdout."),
}  # fmt: skip


def options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The named rows of `OPTIONS`, in this order, as one decorator."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            function = OPTIONS[name](function)
        return function

    return wrap


def run(stages: Sequence[Stage], as_json: bool, **wishes: Any) -> None:
    """Build `stages` with the wishes of the command line, and print the outcome."""
    from argosy.support.interrupts import ctrl_c_deferred

    with ctrl_c_deferred():  # NumPy starts threads
        from argosy.build import BuildRequest, build
        from argosy.support.progress import open_progress

    request = BuildRequest(**wishes)
    with stoppable() as signals, open_progress() as progress:
        report = build(request, Stopping(progress, signals), stages)
    for note in report.notes:
        console.say(f"note: {note}")
    if as_json:
        console.data_json(dataclasses.asdict(report) | {"directory": str(report.directory)})
    else:
        _summarize(report, request.model)


@dataclasses.dataclass(slots=True)
class Signals:
    """Whether the user, or the system, has asked this process to stop."""

    stop: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Stopping:
    """Reports go on to `progress`, until `signals` ask to stop.

    A KeyboardInterrupt that arrives in a destructor or a callback of the compiler is lost; the next report raises it.
    """

    progress: Progress
    signals: Signals

    def report(self, stage: str, done: int, total: int, unit: Unit = "steps") -> None:
        """Raises KeyboardInterrupt if this process is to stop."""
        if self.signals.stop:
            raise KeyboardInterrupt
        self.progress.report(stage, done, total, unit)


@contextlib.contextmanager
def stoppable() -> Iterator[Signals]:
    """Ctrl-C and a polite kill end a build: what was being written is removed.

    On its way through the compiler's C++ a KeyboardInterrupt becomes another error; here it becomes one again. A signal
    that whoever started this program has it ignore, as shells do for what they put into the background, stays ignored.
    """
    signals = Signals()

    def stop(number: int, frame: object) -> None:
        signals.stop = True
        raise KeyboardInterrupt

    heard = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heard}
    try:
        yield signals
    except Exception as error:
        if signals.stop:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summarize(report: BuildReport, model: str) -> None:
    from argosy.dist.naming import build_command
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
        use = "web" if _for_browsers(report) else "chat"
        then = shlex.join(["argosy", use, str(report.directory)])
        console.say(f"\nnext: {console.styled(then, bold=True)}")
    else:
        missing = build_command(model, ",".join(report.targets), report.scheme, report.directory)
        console.say(f"\nnot complete yet, next: {console.styled(missing, bold=True)}")


def _for_browsers(report: BuildReport) -> bool:
    """Return whether everything that was built is for browsers."""
    from argosy.dist.manifest import read_manifest

    libraries = read_manifest(report.directory).libraries
    return all(libraries[name].target.host.for_browsers for name in report.targets)


def _files(names: Sequence[str]) -> str:
    """A short word for the files of a stage."""
    shards = [name for name in names if name.startswith("params_shard_")]
    others = [name for name in names if name not in shards]
    return ", ".join([*others, *([f"{len(shards)} shards"] if shards else [])])
