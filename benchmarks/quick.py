"""A model and a scheme go in; a short benchmark of the whole path, as JSON and as a summary on stderr, comes out.

    python benchmarks/quick.py --output dist/out/bench/quick.json

    build     from nothing into a temporary directory, in a process of its own: seconds a stage, peak memory
    chat      fresh processes on a warm page cache: time to the first token, load time, peak memory
    speed     prefill and decode on fixed token ids; with llama-cpp-python installed the same requests to llama.cpp

Engines stay loaded and take turns, request by request, so that a slow minute of the machine slows all of them. Figures
are medians with every sample beside them; nothing here fails because something was slow.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import machine
from processes import Failed, Server, run_json, run_measured
from summary import Sample, samples, summarize

HERE = Path(__file__).parent
QUESTION = "What is the capital of France?"
PEER = "llama_cpp"
SETTLE_SECONDS = 0.2  # after a request: worker threads that spin for more work must not slow the next engine


@dataclass(frozen=True)
class Case:
    """A request to an engine, and the tokens that its seconds are for."""

    name: str
    request: dict[str, Any]
    tokens: int


def prefill(tokens: int) -> Case:
    """Read so many tokens into an empty context."""
    return Case(f"prefill_{tokens}", {"do": "prefill", "tokens": tokens}, tokens)


def decode(context: int, batch: int = 1, steps: int = 24) -> Case:
    """`steps` tokens one by one, for each of `batch` sequences that hold `context` tokens already."""
    name = f"decode_context_{context}" + (f"_batch_{batch}" if batch > 1 else "")
    return Case(name, {"do": "decode", "context": context, "batch": batch, "steps": steps}, steps * batch)


CASES = (prefill(128), prefill(512), decode(8), decode(512), decode(8, batch=4))


def measure_build(model: str, quantization: str, directory: Path) -> dict[str, Any]:
    """A build from nothing: what the worker found, and its process's wall-clock seconds."""
    started = time.perf_counter()
    found = run_json([HERE / "argosy_worker.py", "build", model, quantization, directory])
    return {**found, "process_seconds": time.perf_counter() - started}


def measure_chat(directory: Path, repeats: int) -> dict[str, Any]:
    """Fresh `argosy chat` processes: to the first byte of an answer, and through a short answer with its figures."""
    command = ["-m", "argosy.cli", "chat", directory, "--prompt", QUESTION, "--temperature", "0"]
    run_measured([*command, "--max-tokens", "1"])  # fills the page cache
    first = [run_measured([*command, "--max-tokens", "1"]).first_byte_seconds for _ in range(repeats)]
    whole = [run_measured([*command, "--max-tokens", "32", "--json"]) for _ in range(repeats)]
    answers = [json.loads(run.stdout) for run in whole]
    return {
        "first_token_seconds": samples(first, "s"),
        "load_seconds": samples([answer["stats"]["load_seconds"] for answer in answers], "s"),
        "peak_bytes": max(run.peak_bytes for run in whole),
        "question": QUESTION,
        "answer": answers[0]["text"],
    }


def measure_speed(engines: dict[str, Server], repeats: int) -> dict[str, dict[str, list[float]]]:
    """Tokens per second: engine -> case -> one number a repeat. The first round warms up and is not counted."""
    rates: dict[str, dict[str, list[float]]] = {name: {case.name: [] for case in CASES} for name in engines}
    for repeat in range(-1, repeats):
        for case in CASES:
            for name, engine in engines.items():
                seconds = engine.ask(case.request)["seconds"]
                time.sleep(SETTLE_SECONDS)
                if repeat >= 0:
                    rates[name][case.name].append(case.tokens / seconds)
    return rates


def ratios(ours: dict[str, list[float]], theirs: dict[str, list[float]]) -> dict[str, Sample]:
    """Our rate over the peer's, repeat by repeat."""
    return {
        name: samples([mine / other for mine, other in zip(ours[name], theirs[name], strict=True)], "ratio")
        for name in ours
    }


def benchmark(model: str, quantization: str, repeats: int, peer: bool) -> dict[str, Any]:
    """All of it, as the JSON object that is written."""
    started = time.perf_counter()
    report: dict[str, Any] = {
        "schema": 1,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "request": {"model": model, "quantization": quantization, "repeats": repeats},
        "machine": machine.describe(),
        "versions": machine.versions(),
    }
    with tempfile.TemporaryDirectory(prefix="argosy-bench-") as folder:
        directory = Path(folder) / "artefact"
        report["build"] = build = measure_build(model, quantization, directory)
        report["sizes"] = build.pop("sizes")
        checkpoint = Path(build.pop("checkpoint"))
        report["chat"] = measure_chat(directory, min(repeats, 3))
        threads = report["machine"]["threads"]
        with contextlib.ExitStack() as stack:
            engines = {"argosy": stack.enter_context(Server([HERE / "argosy_worker.py", "serve", directory, threads]))}
            absent = _why_no_peer(peer, checkpoint)
            if absent is None:
                engines[PEER] = stack.enter_context(Server([HERE / "llama_worker.py", checkpoint, threads]))
            rates = measure_speed(engines, repeats)
    report["speed"] = {name: samples(values, "tokens/s") for name, values in rates["argosy"].items()}
    report["peer"] = {"absent": absent} if absent else _peer(rates, checkpoint)
    report["machine"]["load_after"] = machine.load()
    report["seconds"] = time.perf_counter() - started
    return report


def _why_no_peer(wanted: bool, checkpoint: Path) -> str | None:
    """Why there is nothing to compare with, or None."""
    if not wanted:
        return "not asked for"
    if importlib.util.find_spec(PEER) is None:
        return "llama-cpp-python is not installed"
    return None if checkpoint.suffix == ".gguf" else "the checkpoint is not a GGUF file"


def _peer(rates: dict[str, dict[str, list[float]]], checkpoint: Path) -> dict[str, Any]:
    return {
        "name": "llama.cpp (llama-cpp-python)",
        "version": machine.version("llama-cpp-python"),
        "weights": f"{checkpoint.name}, as shipped",
        "weights_bytes": checkpoint.stat().st_size,
        "speed": {name: samples(values, "tokens/s") for name, values in rates[PEER].items()},
        "ratio": ratios(rates["argosy"], rates[PEER]),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="A short benchmark of building, loading and running a model.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--model", default="smollm2-135m", metavar="M")
    parser.add_argument("--quantization", default="q4f16_1", metavar="Q")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="samples of each speed (default: 5)")
    parser.add_argument("--no-peer", action="store_true", help="do not run llama.cpp beside it")
    wishes = parser.parse_args()
    if wishes.repeats < 1:
        parser.error(f"--repeats {wishes.repeats} is not a positive number")
    try:
        report = benchmark(wishes.model, wishes.quantization, wishes.repeats, peer=not wishes.no_peer)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wishes.output.parent.mkdir(parents=True, exist_ok=True)
    wishes.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(summarize(report), file=sys.stderr)
    print(wishes.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
