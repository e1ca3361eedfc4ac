"""Profile an artefact: print tables of where decode steps and prefills spend their time, kernel by kernel.

    python benchmarks/profile.py dist/out/smollm2-135m-q4f16_1 --context 8,512,2000 --prefill 128,2000

Calls of the virtual machine are timed from Python, which adds about half a microsecond to each: compare kernels with
one another. The figure in a table's title is measured without this overhead and comparable with `argosy bench`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
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
    """Return the name of the table row that a call counts towards."""
    if name == ATTENTION:
        return "split, append and attention"
    return "calls of the virtual machine" if name.startswith("vm.") or name.startswith("shape_func") else name


class Profile:
    """Microseconds and calls by kind, recorded while switched on."""

    def __init__(self) -> None:
        self.times: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.on = False
        self._started = 0.0

    def instrument(self, function: Any, name: str, before: bool, result: Any, *arguments: Any) -> int:
        """Record a call; the virtual machine calls this before and after each of its calls."""
        if before:
            self._started = time.perf_counter()
        elif self.on:
            self.times[kind(name)] += (time.perf_counter() - self._started) * 1e6
            self.calls[kind(name)] += 1
        return 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the calls within the block only."""
        self.times.clear()
        self.calls.clear()
        self.on = True
        yield
        self.on = False

    def table(self, title: str, per: int) -> str:
        """Format the record as Markdown, slowest kind first, all figures divided by `per`."""
        whole = sum(self.times.values())
        lines = [f"| {title} | calls | time | share |", "| --- | --- | --- | --- |"]
        for name, micros in sorted(self.times.items(), key=lambda item: -item[1]):
            if micros >= whole / 200:
                row = [name, f"{self.calls[name] / per:.0f}", f"{micros / per / 1e3:.2f} ms", f"{micros / whole:.0%}"]
                lines.append(f"| {' | '.join(row)} |")
        return "\n".join(lines)


class ProfiledArtefact:
    """A loaded artefact with one sequence."""

    def __init__(self, directory: str) -> None:
        artefact = open_artefact(directory)
        self.library = load_library(artefact)
        self.runner = LibraryRunner(self.library, load_weights(artefact, self.library))

    @contextmanager
    def holding(self, tokens: int) -> Iterator[None]:
        """Keep `tokens` tokens in sequence 0 within the block."""
        self.runner.store.add(0)
        ids, chunk = token_ids(tokens, self.runner.limits.vocab_size), self.runner.limits.prefill_chunk
        for first in range(0, tokens, chunk):
            self.runner.forward(Batch([Chunk(0, ids[first : first + chunk])]))
        yield
        self.runner.store.remove(0)

    def step(self) -> None:
        """Decode one token."""
        self.runner.forward(Batch([Chunk(0, [1])]))

    def prefill(self, tokens: int) -> None:
        """Read a prompt of `tokens` tokens and remove it again."""
        with self.holding(tokens):
            pass


def median_ms(call: Callable[[], None], times: int) -> float:
    """Return the median of `times` calls in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def tables(artefact: ProfiledArtefact, contexts: list[int], prefills: list[int]) -> Iterator[str]:
    """Yield a table for each context, then one for each prefill."""
    plain: dict[str, float] = {}
    for context in contexts:
        with artefact.holding(context):
            plain[f"decode, context {context}"] = median_ms(artefact.step, 2 * STEPS)
    for tokens in prefills:
        plain[f"prefill, {tokens} tokens"] = median_ms(partial(artefact.prefill, tokens), 4)
    profile = Profile()
    artefact.library.machine.set_instrument(profile.instrument)
    for title, milliseconds in plain.items():
        count = int(title.split()[2 if title.startswith("decode") else 1])
        if title.startswith("decode"):
            with artefact.holding(count), profile.recording():
                for _ in range(STEPS):
                    artefact.step()
        else:
            with profile.recording():
                artefact.prefill(count)
        yield profile.table(f"{title}: {milliseconds:.2f} ms", STEPS if title.startswith("decode") else 1)


def numbers(text: str) -> list[int]:
    """Parse numbers such as `8,512`."""
    return [int(word) for word in text.split(",") if word]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Profile an artefact, kernel by kernel, as Markdown.")
    parser.add_argument("artefact", metavar="DIR")
    parser.add_argument(
        "--context", type=numbers, default=[8, 512], metavar="N,...", help="numbers of tokens to decode after"
    )
    parser.add_argument("--prefill", type=numbers, default=[512], metavar="N,...", help="lengths of prompts to read")
    parser.add_argument("--threads", type=int, metavar="N")
    options = parser.parse_args()
    use_runtime_only()
    configure_threads(options.threads)
    for table in tables(ProfiledArtefact(options.artefact), options.context, options.prefill):
        print(table, end="\n\n")


if __name__ == "__main__":
    main()
