"""A model and a scheme go in; how it fares in Node and in Chromium comes out, as JSON and as Markdown with the answer.

    python benchmarks/browser.py --output dist/out/bench/web.json --markdown web.md
    python benchmarks/browser.py --model smollm2-135m --tokens 16 --output dist/out/bench/web-smollm2.json

Without `--model` it is the 2-layer llama of tests/web. WebGPU is SwiftShader, a program on the processor, for Node and
Chromium alike. The figures compare versions of this project on one machine; they say nothing of a graphics processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from web.machine import WEB, drive, missing_chromium, node_environment, program, run_node, served
from web.tiny_artefacts import CONTEXT, save_letters_checkpoint

from argosy.bench.machine import describe, versions
from argosy.bench.tables import Table
from argosy.bench.tables import markdown as table_markdown
from argosy.dist.manifest import read_manifest
from argosy.support.files import write_bytes_atomic, write_json_atomic
from argosy.support.text import human_size, human_time

SCHEMA = "argosy-web-bench/1"
TINY = "2-layer llama"
QUESTION = "What is the capital of France?"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Times of an artefact in Node and in Chromium, on SwiftShader.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where a section for docs/performance.md goes")
    parser.add_argument("--model", metavar="M", help="default: the tiny model of the tests")
    parser.add_argument("--quantization", default="q4f32_1", metavar="Q")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="length of an answer")
    parser.add_argument("--context-window", type=int, default=CONTEXT, metavar="N")
    wishes = parser.parse_args()
    if (reason := missing_chromium()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    wishes.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        report = measure(wishes, Path(work))
    write_json_atomic(wishes.output, report)
    if wishes.markdown is not None:
        write_bytes_atomic(wishes.markdown, markdown(report).encode())
    print(markdown(report))
    print(wishes.output)
    return 0


def measure(wishes: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Everything, one after the other, on an otherwise idle machine."""
    model = wishes.model or str(save_letters_checkpoint(work / "tiny"))
    directory = work / "artefact"
    builds = [compile_library(model, wishes, directory, work / "cache") for _ in range(2)]
    library = directory / read_manifest(directory).libraries["webgpu"].file
    subprocess.run([str(program("npm")), "run", "--silent", "build"], cwd=WEB, env=node_environment(), check=True)
    generation = {"temperature": 0, "max_tokens": wishes.tokens, "ignore_eos": wishes.model is None}
    talk = {"prompts": [QUESTION], "generation": generation}
    report: dict[str, Any] = {
        "schema": SCHEMA, "model": wishes.model or TINY, "quantization": wishes.quantization,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": describe(), "versions": versions(),
        "library_bytes": library.stat().st_size,
        "weight_bytes": sum(path.stat().st_size for path in directory.glob("params_shard_*.bin")),
        "library_seconds": {"first": builds[0], "second": builds[1]},
    }  # fmt: skip
    report["runs"] = {
        "Node": figures(run_node(WEB / "test" / "node" / "run.mjs", str(directory), timeout=3000, **talk))
    }
    with served(directory) as server:
        page = {"url": server.url, "binding": WEB / "dist", "profile": work / "profile", "loads": 2}
        seen = drive("transcript", timeout=3000, **page, **talk)
    for name, run in zip(("Chromium, first visit", "Chromium, second visit"), seen["runs"], strict=True):
        report["runs"][name] = figures(run)
    return report


def compile_library(model: str, wishes: argparse.Namespace, directory: Path, cache: Path) -> float:
    """Seconds that the compiler and the linker take; weights and config are there, or are written before."""
    command = [sys.executable, "-m", "argosy.cli"]
    options = ["--model", model, "--quantization", wishes.quantization, "--output", str(directory)]
    bounds = ["--context-window", str(wishes.context_window)]
    environment = {**os.environ, "ARGOSY_CACHE": str(cache)}
    for part in ("convert", "config"):
        subprocess.run([*command, part, *options, *(bounds if part == "config" else [])], check=True, stdout=sys.stderr)
    started = time.perf_counter()
    last = ["compile", *options, *bounds, "--target", "webgpu", "--force"]
    subprocess.run([*command, *last], check=True, stdout=sys.stderr, env=environment)
    return time.perf_counter() - started


def figures(run: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one load and one answer. Seconds, and tokens per second."""
    (reply,) = run["replies"]
    stats = reply["stats"]
    return {
        "adapter": run["model"]["adapter"], "load": stats["loadSeconds"], "shaders": stats["shaderSeconds"],
        "first_token_after_asking": stats["timeToFirstToken"],
        "first_token": stats["loadSeconds"] + stats["timeToFirstToken"],
        "prompt_tokens": stats["promptTokens"], "tokens": stats["completionTokens"],
        "decode_rate": stats["decodeTokensPerSecond"], "text": reply["text"],
    }  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    """A section of docs/performance.md."""
    runs, machine, build = report["runs"], report["machine"], report["library_seconds"]
    rows = {
        "Loading": lambda run: human_time(run["load"]),
        "of it, compiling shaders": lambda run: human_time(run["shaders"]),
        "First token, from the start of loading": lambda run: human_time(run["first_token"]),
        "First token, from asking": lambda run: human_time(run["first_token_after_asking"]),
        "Decode, tokens/s": lambda run: f"{run['decode_rate']:.3g}",
    }
    table = Table(
        f"In a browser: {report['model']}, {report['quantization']}", ("", *runs),
        tuple((label, *(show(run) for run in runs.values())) for label, show in rows.items()),
        (
            f"On {machine['cpu']}, {machine['usable_cpus']} threads, SwiftShader, which is WebGPU on the processor. "
            f"The library has {human_size(report['library_bytes'])}, the weights {human_size(report['weight_bytes'])}. "
            f"Compiling and linking the library took {human_time(build['first'])} with the runtime to be compiled "
            f"first, and {human_time(build['second'])} with it in the cache; "
            "[linking alone](notes/webgpu_pack.md) is a part of a second.",
        ),
    )  # fmt: skip
    words = "\n\n".join(f"> {QUESTION}\n>\n> {run['text'].strip()}" for run in list(runs.values())[-1:])
    return table_markdown(table) + (f"\n\n{words}" if report["model"] != TINY else "") + "\n"


if __name__ == "__main__":
    sys.exit(main())
