"""Measure engines by a plan: interleaved speeds, start-up times of fresh processes, memory bandwidth."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.bench.peers import AS_SHIPPED, Peer
from argosy.bench.processes import Server, run_json, run_measured
from argosy.bench.samples import samples
from argosy.bench.workload import FIRST_PROMPT, BenchmarkPlan, Setup
from argosy.support.files import require_space
from argosy.support.progress import Progress

QUESTION = "What is the capital of France?"
SETTLE_SECONDS = 0.2  # pause after a request, lest spinning worker threads slow the next engine
STREAM_BYTES = 512 * 2**20
STREAM_REPEATS = 5
# The peak memory of chat should stay below WEIGHTS_SHARE * weights + KV cache + ALLOWANCE, in bytes.
WEIGHTS_SHARE, ALLOWANCE = 1.3, 150_000_000


@dataclass(frozen=True, slots=True)
class EngineCommand:
    """How to start an engine: its worker module, and that module's argument."""

    name: str
    worker: str
    setup: Setup

    @property
    def command(self) -> list[str]:
        """The arguments of Python."""
        return ["-m", self.worker, self.setup.to_argument()]


@contextlib.contextmanager
def peer_files(source: Path | None, peers: Sequence[Peer], progress: Progress) -> Iterator[dict[Peer, Path]]:
    """Yield the file of each peer: `source`, or a copy with requantized matrices that is removed after the block."""
    with tempfile.TemporaryDirectory(prefix="argosy-bench-") as folder:
        made: dict[str, Path] = {}
        kinds = list(dict.fromkeys(peer.weights for peer in peers if peer.weights != AS_SHIPPED))
        for number, kind in enumerate(kinds):
            assert source is not None
            progress.report("requantize for peers", number, len(kinds))
            made[kind] = Path(folder) / f"{source.stem}.{kind}.gguf"
            require_space(Path(folder), source.stat().st_size * (8 if kind in ("F16", "F32") else 2))
            run_json(["-m", "argosy.bench.gguf_file", "requantize", source, kind, made[kind]])
        if kinds:
            progress.report("requantize for peers", len(kinds), len(kinds))
        yield {peer: made.get(peer.weights, source) for peer in peers if source is not None}


def facts(engine: EngineCommand) -> dict[str, Any]:
    """Load an engine and return the facts it reports; raise its error, if any, before anything is measured."""
    with Server(engine.command) as server:
        return {key: value for key, value in server.ready.items() if key != "ready"}


def starts(engines: Sequence[EngineCommand], plan: BenchmarkPlan, progress: Progress) -> dict[str, dict[str, Any]]:
    """Time fresh processes, interleaved: seconds from their start to a loaded engine and to a first token.

    A first round, which is not counted, warms the page cache and the engines' own caches on disk.
    """
    found: dict[str, dict[str, list[float]]] = {engine.name: {"load": [], "first": []} for engine in engines}
    request = {"do": "prefill", "tokens": FIRST_PROMPT}
    total = (plan.starts + 1) * len(engines)
    for turn in range(plan.starts + 1):
        for number, engine in enumerate(engines):
            progress.report("start afresh", turn * len(engines) + number, total)
            started = time.perf_counter()
            with Server(engine.command) as server:
                loaded = time.perf_counter() - started
                server.ask(request)
                first = time.perf_counter() - started
            if turn > 0:
                found[engine.name]["load"].append(loaded)
                found[engine.name]["first"].append(first)
    progress.report("start afresh", total, total)
    return {
        name: {"load_seconds": samples(times["load"], "s"), "first_token_seconds": samples(times["first"], "s")}
        for name, times in found.items()
    }


@dataclass(frozen=True, slots=True)
class Speeds:
    """Tokens per second by engine and case, one number per turn; by engine its facts and peak memory."""

    rates: Mapping[str, Mapping[str, list[float]]]
    facts: Mapping[str, Mapping[str, Any]]


def speeds(engines: Sequence[EngineCommand], plan: BenchmarkPlan, progress: Progress) -> Speeds:
    """Measure all engines interleaved, request by request, so that a slow minute slows all of them.

    All stay loaded. The order is reversed from turn to turn. The first turn of a case warms up and is not counted.
    """
    rates: dict[str, dict[str, list[float]]] = {engine.name: {} for engine in engines}
    facts: dict[str, dict[str, Any]] = {}
    with contextlib.ExitStack() as stack:
        servers = {}
        for number, engine in enumerate(engines):
            progress.report("load", number, len(engines))
            servers[engine.name] = stack.enter_context(Server(engine.command))
        progress.report("load", len(engines), len(engines))
        for case in plan.cases():
            for turn in range(-1, plan.repeats):
                progress.report(case.title, max(0, turn), plan.repeats)
                names = list(servers) if turn % 2 else list(reversed(servers))
                for name in names:
                    seconds = servers[name].ask(case.request)["seconds"]
                    time.sleep(SETTLE_SECONDS)
                    kept = rates[name].setdefault(case.name, [])
                    if turn >= 0:
                        kept.append(case.tokens / seconds)
            progress.report(case.title, plan.repeats, plan.repeats)
        for name, server in servers.items():
            reported = {key: value for key, value in server.ready.items() if key != "ready"}
            facts[name] = {**reported, **server.ask({"do": "memory"})}
    return Speeds(rates, facts)


def chat(directory: Path, threads: int, plan: BenchmarkPlan, progress: Progress) -> dict[str, Any]:
    """Time fresh `argosy chat` processes up to the first byte of an answer, and measure a short answer."""
    command = ["-m", "argosy.cli", "chat", directory, "--prompt", QUESTION, "--temperature", "0", "--threads", threads]
    total = 2 * plan.starts
    run_measured([*command, "--max-tokens", "1"])  # warm the page cache
    first, whole = [], []
    for turn in range(plan.starts):
        progress.report("chat", 2 * turn, total)
        first.append(run_measured([*command, "--max-tokens", "1"]).first_byte_seconds)
        progress.report("chat", 2 * turn + 1, total)
        whole.append(run_measured([*command, "--max-tokens", "32", "--json"]))
    progress.report("chat", total, total)
    answers = [json.loads(run.stdout) for run in whole]
    stats = answers[0]["stats"]
    weights, kv = stats["weight_bytes"], stats["kv_bytes"]
    return {
        "first_token_seconds": samples(first, "s"),
        "load_seconds": samples([answer["stats"]["load_seconds"] for answer in answers], "s"),
        "peak_bytes": max(run.peak_bytes for run in whole),
        "weights_bytes": weights,
        "kv_cache_bytes": kv,
        "kv_cache_tokens": {"held": stats["context_tokens"], "room": stats["context_window"]},
        "bound_bytes": round(WEIGHTS_SHARE * weights) + kv + ALLOWANCE,
        "question": QUESTION,
        "answer": answers[0]["text"],
    }


def bandwidth(threads: int, nbytes: int) -> list[float]:
    """Measure the bytes per second that `threads` read from a buffer of `nbytes`, in a fresh process."""
    return list(run_json(["-m", "argosy.bench.bandwidth", threads, nbytes, STREAM_REPEATS])["samples"])


def build(recipe: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Build from scratch in a fresh process; return its figures and its wall-clock seconds."""
    progress.report("build from nothing", 0, 1)
    with tempfile.TemporaryDirectory(prefix="argosy-bench-") as folder:
        started = time.perf_counter()
        found = run_json(["-m", "argosy.bench.building", json.dumps(dict(recipe)), Path(folder) / "artefact"])
        seconds = time.perf_counter() - started
    progress.report("build from nothing", 1, 1)
    return {**found, "process_seconds": seconds}
