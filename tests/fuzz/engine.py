"""Feed changed inputs to readers in child processes, under limits, and keep what they should not have done.

Each child changes seeds, and inputs that had a new verdict: an error of another kind, or none. It writes an input to
memory before reading it, so that the parent finds the input of a child that crashed or hangs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.process
import os
import random
import re
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from fuzz.target import Files, Genome, Target

from argosy.support.errors import ArgosyError

SECONDS = 1.0  # of the processor, for one input
MEMORY = 200_000_000  # bytes that reading an input may add, or four times its size
ADDRESSES = 8 << 30  # bytes of address space of a child
HANG = 60.0  # seconds without a new input
UNIT = 4000  # inputs of one child
POOL = 300  # inputs kept for their verdicts, for each target
MOST_FAULTS = 25
IN_MEMORY = Path("/dev/shm")


@dataclass
class Tally:
    """What became of the inputs of one target."""

    inputs: int = 0
    accepted: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)


def judge(target: Target, directory: Path) -> tuple[str, str | None]:
    """Read the input in `directory`. Return its verdict, and what is wrong with it or None."""
    start, peak = time.process_time(), _peak()
    fault = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # a warning of numpy reaches people
            target.use(directory)
        verdict = "accepted"
    except ArgosyError as error:
        verdict = f"{type(error).__name__}: {re.sub('`[^`]*`|[0-9]+', '_', error.message)}"[:200]
        lines = (error.message, error.hint or "")
        if not error.message or len(error.message) > 1500 or not all(line.isprintable() for line in lines):
            fault = f"an error of more than one printable line: {error!r}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library in Rust is not an Exception
        verdict = fault = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    if (taken := time.process_time() - start) > SECONDS:
        fault = fault or f"took {taken:.1f} seconds of the processor ({verdict})"
    allowed = max(MEMORY, 4 * sum(path.stat().st_size for path in directory.iterdir() if path.is_file()))
    if (grown := _peak() - peak) > allowed:
        fault = fault or f"took {grown >> 20} MiB of memory ({verdict})"
    return verdict, fault


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write(files: Files, directory: Path, written: dict[str, bytes]) -> None:
    """Make `directory` hold exactly `files`; `written` is what it holds already."""
    for name in written.keys() - files.keys():
        with contextlib.suppress(FileNotFoundError):
            (directory / name).unlink()
        del written[name]
    for name, data in files.items():
        if written.get(name) is not data:
            (directory / name).write_bytes(data)
            written[name] = data


def _child(
    target: Target, pool: Sequence[Genome], count: int, seed: int, directory: Path, beat: object, answer: Connection
) -> None:
    """Read `count` changed inputs, and send (inputs, accepted, verdicts, new genomes, faults with their files)."""
    faulthandler.disable()
    log = os.open(directory / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # collecting the garbage of the parent's objects, which may be pytest's, would be an input's time
    rng = random.Random(seed)
    place = directory / "input"
    place.mkdir()
    seeds, kept, fresh = list(target.seeds()), list(pool), []
    verdicts: Counter[str] = Counter()
    written: dict[str, bytes] = {}
    faults: list[tuple[str, dict[str, bytes]]] = []
    accepted = 0
    for _ in range(count):
        parent = rng.choice(kept if kept and rng.random() < 0.5 else seeds)
        genome = target.change(parent, rng)
        files = target.render(genome)
        write(files, place, written)
        beat.value += 1  # type: ignore[attr-defined]
        verdict, fault = judge(target, place)
        if fault is not None and "seconds of the processor" in fault:  # a busy machine may charge it for others' work
            verdict, fault = judge(target, place)
        accepted += verdict == "accepted"
        if fault is not None:
            faults.append((fault, dict(files)))
            if len(faults) > MOST_FAULTS or "MiB of memory" in fault:
                break  # the peak of memory does not go down again
        elif verdict not in verdicts and len(kept) < POOL:
            kept.append(genome)
            fresh.append(genome)
        verdicts[verdict] += 1
    answer.send((verdicts.total(), accepted, verdicts, fresh, faults))
    answer.close()


class Fuzzer:
    """Spreads inputs over child processes. Faults are saved below `saved`, a directory for each."""

    def __init__(self, targets: Sequence[Target], saved: Path, seed: int = 0, jobs: int | None = None) -> None:
        self.tallies = {target.name: Tally() for target in targets}
        self._targets = targets
        self._saved = saved
        self._seed = seed
        self._jobs = jobs or os.cpu_count() or 1
        self._pools: dict[str, list[Genome]] = {target.name: [] for target in targets}
        self._context = multiprocessing.get_context("fork")
        for target in targets:
            target.seeds()  # imports what it needs, once for all children

    @property
    def faults(self) -> list[str]:
        """All faults found so far."""
        return [fault for tally in self.tallies.values() for fault in tally.faults]

    def run(self, inputs: int, seconds: float = math.inf) -> None:
        """Read about `inputs` inputs, or fewer if there are many faults or the time is over."""
        end = time.monotonic() + seconds
        running: list[_Run] = []
        units = self._units(inputs)
        with tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder:
            try:
                while True:
                    goes_on = len(self.faults) < MOST_FAULTS and time.monotonic() < end
                    while goes_on and len(running) < self._jobs and (unit := next(units, None)):
                        running.append(self._start(*unit, Path(folder)))
                    if not running:
                        return
                    multiprocessing.connection.wait([run.answer for run in running], timeout=1.0)
                    for run in [run for run in running if self._ended(run)]:
                        running.remove(run)
                        shutil.rmtree(run.directory, ignore_errors=True)
            finally:
                for run in running:
                    run.process.kill()
                    run.process.join()

    def _units(self, inputs: int) -> Iterator[tuple[Target, int]]:
        """Yield targets and numbers of inputs, in turns, so that each target has its share at any time."""
        whole = sum(target.share for target in self._targets)
        left = {target.name: max(1, round(inputs * target.share / whole)) for target in self._targets}
        while any(left.values()):
            for target in self._targets:
                count = min(left[target.name], UNIT)
                if count:
                    left[target.name] -= count
                    yield target, count

    def _start(self, target: Target, count: int, folder: Path) -> _Run:
        self._seed += 1
        directory = Path(tempfile.mkdtemp(dir=folder))
        answer, theirs = self._context.Pipe(duplex=False)
        beat = self._context.Value("L", 0, lock=False)
        arguments = (target, self._pools[target.name], count, self._seed, directory, beat, theirs)
        process = self._context.Process(target=_child, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Run(target, process, directory, answer, beat)

    def _ended(self, run: _Run) -> bool:
        """Collect what a child found, or what it was reading when it died or hung. Return whether it is over."""
        tally = self.tallies[run.target.name]
        if run.answer.poll():
            try:
                inputs, accepted, verdicts, fresh, faults = run.answer.recv()
            except EOFError:
                run.process.join()
                self._died(run, tally, f"the process ended with status {run.process.exitcode}")
            else:
                run.process.join()
                tally.inputs += inputs
                tally.accepted += accepted
                tally.verdicts += verdicts
                pool = self._pools[run.target.name]
                pool += fresh[: POOL - len(pool)]
                for fault, files in faults:
                    self._save(run.target, tally, fault, files)
        elif not run.stalled():
            return False
        else:
            run.process.kill()
            run.process.join()
            self._died(run, tally, f"no answer for {HANG:.0f} seconds")
        tally.seconds += time.monotonic() - run.begin
        return True

    def _died(self, run: _Run, tally: Tally, fault: str) -> None:
        tally.inputs += run.beat.value  # type: ignore[attr-defined]
        place = run.directory / "input"
        files = {path.name: path.read_bytes() for path in place.iterdir()} if place.is_dir() else {}
        log = (run.directory / "log").read_text(errors="replace") if (run.directory / "log").exists() else ""
        self._save(run.target, tally, f"{fault}\n{log[-2000:]}", files)

    def _save(self, target: Target, tally: Tally, fault: str, files: Files) -> None:
        directory = self._saved / f"{target.name}-{self._seed}-{len(tally.faults)}"
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (directory / name).write_bytes(data)
        (directory / "fault.txt").write_text(fault)
        tally.faults.append(f"{directory}: {fault}")


@dataclass
class _Run:
    """A child at work."""

    target: Target
    process: multiprocessing.process.BaseProcess
    directory: Path
    answer: Connection
    beat: object
    begin: float = field(default_factory=time.monotonic)
    last: tuple[int, float] = (0, 0.0)

    def stalled(self) -> bool:
        """Return whether no input was begun for a while."""
        count, now = self.beat.value, time.monotonic()  # type: ignore[attr-defined]
        if count != self.last[0] or not self.last[1]:
            self.last = count, now
        return now - self.last[1] > HANG
