"""An artefact goes in; where the time of a decode step and of a prefill goes, kernel by kernel, comes out as tables.

    python benchmarks/profile.py dist/out/smollm2-135m-q4f16_1 --context 8,512,2000 --prefill 128,2000

Every call of the virtual machine is timed from Python, which adds about half a microsecond to each: compare kernels
with each other, and the plain figure, taken without that, with `argosy bench`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from argosy.bench.workload import token_ids
from argosy.dist.artefact import open_artefact
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads, use_runtime_only

STEPS = 40
ATTENTION = "vm.builtin.attention_kv_cache_attention_with_fused_qkv"


def kind(name: str) -> str:
    """What a row of the table is called."""
    if name == ATTENTION:
        return "split, append and attention"
    return "calls of the virtual machine" if name.startswith("vm.") or name.startswith("shape_func") else name


class Profile:
    """Microseconds and calls of each kind, while it is switched on."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.on = False
        self._started = 0.0

    def hear(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
        """What the virtual machine calls around every call of its own."""
        if before:
            self._started = time.perf_counter()
        elif self.on:
            self.times[kind(name)] += (time.perf_counter() - self._started) * 1e6
            self.calls[kind(name)] += 1
        return 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notes the calls of the block, and no others."""
        self.times.clear()
        self.calls.clear()
        self.on = True
        yield
        self.on = False

    def table(self, title: str, per: int) -> str:
        """Markdown: what takes longest first, all divided by `per`."""
        whole = sum(self.times.values())
        lines = [f"| {title} | calls | time | share |", "| --- | --- | --- | --- |"]
        for name, micros in self.times.most_common():
            if micros >= whole / 200:
                row = [name, f"{self.calls[name] / per:.0f}", f"{micros / per / 1e3:.2f} ms", f"{micros / whole:.0%}"]
                lines.append(f"| {' | '.join(row)} |")
        return "\n".join(lines)


class Subject:
    """An artefact, and one sequence of it."""

    def __init__(self, directory: str) -> None:
        artefact = open_artefact(directory)
        self.library = load_library(artefact)
        self.runner = LibraryRunner(self.library, load_weights(artefact, self.library))

    @contextmanager
    def holding(self, tokens: int) -> Iterator[None]:
        """A sequence 0 of so many tokens, for the time of the block."""
        self.runner.store.add(0)
        ids, chunk = token_ids(tokens, self.runner.limits.vocab_size), self.runner.limits.prefill_chunk
        for first in range(0, tokens, chunk):
            self.runner.forward(Batch([Chunk(0, ids[first : first + chunk])]))
        yield
        self.runner.store.remove(0)

    def step(self) -> None:
        """One token more."""
        self.runner.forward(Batch([Chunk(0, [1])]))

    def prefill(self, tokens: int) -> None:
        """A sequence that comes and goes."""
        with self.holding(tokens):
            pass


def median_ms(call: Callable[[], None], times: int) -> float:
    """Milliseconds of a call."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def tables(subject: Subject, contexts: list[int], prefills: list[int]) -> Iterator[str]:
    """A table for each context, then one for each prefill."""
    plain: dict[str, float] = {}
    for context in contexts:
        with subject.holding(context):
            plain[f"decode, context {context}"] = median_ms(subject.step, 2 * STEPS)
    for tokens in prefills:
        plain[f"prefill, {tokens} tokens"] = median_ms(lambda tokens=tokens: subject.prefill(tokens), 4)
    profile = Profile()
    subject.library.machine.set_instrument(profile.hear)
    for title, milliseconds in plain.items():
        count = int(title.split()[2 if title.startswith("decode") else 1])
        if title.startswith("decode"):
            with subject.holding(count), profile.listening():
                for _ in range(STEPS):
                    subject.step()
        else:
            with profile.listening():
                subject.prefill(count)
        yield profile.table(f"{title}: {milliseconds:.2f} ms", STEPS if title.startswith("decode") else 1)


def numbers(text: str) -> list[int]:
    """`8,512` as numbers."""
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Where the time of an artefact goes, kernel by kernel, as Markdown.")
    parser.add_argument("artefact", metavar="DIR")
    parser.add_argument(
        "--context", type=numbers, default=[8, 512], metavar="N,...", help="decode after so many tokens"
    )
    parser.add_argument("--prefill", type=numbers, default=[512], metavar="N,...", help="read so many tokens")
    parser.add_argument("--threads", type=int, metavar="N")
    wishes = parser.parse_args()
    use_runtime_only()
    configure_threads(wishes.threads)
    for table in tables(Subject(wishes.artefact), wishes.context, wishes.prefill):
        print(table, end="\n\n")


if __name__ == "__main__":
    main()
