"""A command goes in; Argosy does it in this fresh process, and figures come out as JSON lines on stdout.

argosy_worker.py build MODEL SCHEME DIRECTORY     build from nothing
argosy_worker.py serve DIRECTORY THREADS          answer requests: {"do": "prefill", "tokens": n} and
                                                  {"do": "decode", "context": n, "batch": b, "steps": n}
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from workload import CONTEXT, MAX_BATCH, answer_requests, token_ids


class Stopwatch:
    """`Progress` that notes when each stage began, when the link step began, and the peak memory at those times."""

    def __init__(self) -> None:
        self.stage = ""
        self.link_began: float | None = None
        self.link_ended: float | None = None
        self.convert_peak = 0

    def report(self, stage: str, done: int, total: int, unit: str = "steps") -> None:
        """Linking is the last step of the stage `compile`."""
        from argosy.runtime_bindings.engine.memory import memory_use

        if self.stage == "convert weights":
            self.convert_peak = memory_use().peak
        self.stage = stage
        if stage == "compile" and done == total - 1:
            self.link_began = time.perf_counter()
        if stage == "compile" and done == total:
            self.link_ended = time.perf_counter()


def build(model: str, quantization: str, directory: str) -> dict[str, Any]:
    """Build `model`: seconds of each stage, peak memory up to the end of converting and of everything, sizes."""
    from argosy.build import Request, prepare
    from argosy.build import build as run
    from argosy.runtime_bindings.engine.memory import memory_use

    watch = Stopwatch()
    request = Request(model, quantization=quantization, output=Path(directory))
    started = time.perf_counter()
    report = run(request, watch)
    seconds = time.perf_counter() - started
    stages = {stage.stage: stage for stage in report.stages}
    assert watch.link_began is not None and watch.link_ended is not None, "no link step was reported"
    link = watch.link_ended - watch.link_began
    checkpoint = prepare(request).checkpoint.path
    return {
        "seconds": seconds,
        "stages": {
            "convert": stages["weights"].seconds,
            "config": stages["config"].seconds,
            "compile": stages["library"].seconds - link,
            "link": link,
        },
        "peak_bytes": {"convert": watch.convert_peak, "build": memory_use().peak},
        "sizes": {"weights": stages["weights"].nbytes, "library": stages["library"].nbytes},
        "checkpoint": str(checkpoint),
    }


class Engine:
    """An artefact, ready to compute on token ids."""

    def __init__(self, directory: str, threads: int) -> None:
        from argosy.runtime_bindings.engine.tvm_runtime import configure_threads, use_runtime_only

        use_runtime_only()
        configure_threads(threads)
        from argosy.dist.artefact import open_artefact
        from argosy.runtime_bindings.engine.library import LibraryRunner, load_library, load_weights

        artefact = open_artefact(directory)
        library = load_library(artefact)
        weights = load_weights(artefact, library)
        self.runner = LibraryRunner(library, weights, max_batch=MAX_BATCH, context_window=CONTEXT)

    def prefill(self, tokens: int) -> float:
        """Seconds to read `tokens` tokens into an empty context."""
        self.runner.store.add(0)
        try:
            started = time.perf_counter()
            self._read(0, tokens)
            return time.perf_counter() - started
        finally:
            self.runner.store.remove(0)

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Seconds for `steps` tokens of each of `batch` sequences, after `context` tokens each."""
        sequences = range(batch)
        for sequence in sequences:
            self.runner.store.add(sequence)
            self._read(sequence, context)
        try:
            started = time.perf_counter()
            for token in token_ids(steps, self.runner.bounds.vocab_size):
                self.runner.decode(sequences, [token] * batch)
            return time.perf_counter() - started
        finally:
            for sequence in sequences:
                self.runner.store.remove(sequence)

    def _read(self, sequence: int, count: int) -> None:
        from argosy.runtime_bindings.engine.runner import Chunk

        tokens = token_ids(count, self.runner.bounds.vocab_size)
        size = self.runner.bounds.prefill_chunk
        for first in range(0, count, size):
            self.runner.prefill([Chunk(sequence, tokens[first : first + size])])


def main() -> None:
    """The command line."""
    from argosy.support.errors import ArgosyError

    try:
        match sys.argv[1:]:
            case ["build", model, quantization, directory]:
                print(json.dumps(build(model, quantization, directory)))
            case ["serve", directory, threads]:
                answer_requests(Engine(directory, int(threads)))
            case _:
                sys.exit(__doc__)
    except ArgosyError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
