"""A model and a scheme go in; how it fares in Node and in Chromium comes out, as JSON and as Markdown with the answer.

    python benchmarks/browser.py --output dist/out/bench/web.json --markdown web.md
    python benchmarks/browser.py --model smollm2-135m --tokens 16 --output dist/out/bench/web-smollm2.json

Without `--model` it is the 2-layer llama of tests/web. WebGPU is a program on the processor, for Node and Chromium
alike: SwiftShader, or lavapipe for schemes of 16-bit floats. The figures compare versions of this project on one
machine; they say nothing of a graphics processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from web.machine import (
    LAVAPIPE,
    LAVAPIPE_GPU,
    SWIFTSHADER,
    WEB,
    drive,
    missing_chromium,
    missing_float16_chromium,
    node_environment,
    program,
    run_node,
    served,
)
from web.tiny_artefacts import CONTEXT, save_letters_checkpoint

from argosy.bench.machine import describe, versions
from argosy.bench.tables import Table
from argosy.bench.tables import markdown as table_markdown
from argosy.compiler.targets.webgpu.schemes import DTYPES
from argosy.dist.manifest import read_manifest
from argosy.support.files import write_bytes_atomic, write_json_atomic
from argosy.support.text import human_size, human_time

SCHEMA = "argosy-web-bench/2"
TINY = "2-layer llama"
QUESTION = "What is the capital of France?"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Times of an artefact in Node and in Chromium, on the processor.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where a section for docs/performance.md goes")
    parser.add_argument("--model", metavar="M", help="default: the tiny model of the tests")
    parser.add_argument("--quantization", default="q4f32_1", choices=DTYPES, metavar="Q")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="length of an answer")
    parser.add_argument("--context-window", type=int, default=CONTEXT, metavar="N")
    wishes = parser.parse_args()
    reason = missing_float16_chromium() if in_float16(wishes.quantization) else missing_chromium()
    if reason is not None:
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
        "schema": SCHEMA, "command": command_line(wishes),
        "model": wishes.model or TINY, "quantization": wishes.quantization,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": describe(), "versions": versions(),
        "library_bytes": library.stat().st_size,
        "weight_bytes": sum(path.stat().st_size for path in directory.glob("params_shard_*.bin")),
        "library_seconds": {"first": builds[0], "second": builds[1]},
    }  # fmt: skip
    icd, driver = (LAVAPIPE, LAVAPIPE_GPU) if in_float16(wishes.quantization) else (SWIFTSHADER, None)
    runner = WEB / "test" / "node" / "run.mjs"
    report["runs"] = {"Node": figures(run_node(runner, str(directory), timeout=3000, icd=icd, **talk))}
    with served(directory) as server:
        page = {"url": server.url, "binding": WEB / "dist", "profile": work / "profile", "driver": driver, "loads": 2}
        seen = drive("transcript", timeout=3000, **page, **talk)
    for name, run in zip(("Chromium, first visit", "Chromium, second visit"), seen["runs"], strict=True):
        report["runs"][name] = figures(run)
    return report


def command_line(wishes: argparse.Namespace) -> str:
    """What to type for the same again."""
    model = f" --model {wishes.model}" if wishes.model else ""
    return f"python benchmarks/browser.py{model} --quantization {wishes.quantization} --tokens {wishes.tokens}"


def in_float16(quantization: str) -> bool:
    """Whether a scheme computes in 16-bit floats."""
    return DTYPES[quantization] == "float16"


def compile_library(model: str, wishes: argparse.Namespace, directory: Path, cache: Path) -> dict[str, float]:
    """Seconds of compiling a library, of it linking, and of compiling the runtime if it is not in `cache` yet.

    Weights and config are there, or are written before.
    """
    command = [sys.executable, "-m", "argosy.cli"]
    options = ["--model", model, "--quantization", wishes.quantization, "--output", str(directory)]
    bounds = ["--context-window", str(wishes.context_window)]
    environment = {**os.environ, "ARGOSY_CACHE": str(cache)}
    for part in ("convert", "config"):
        subprocess.run([*command, part, *options, *(bounds if part == "config" else [])], check=True, stdout=sys.stderr)
    last = [*command, "compile", *options, *bounds, "--target", "webgpu", "--force", "--json"]
    said = subprocess.run(last, check=True, stdout=subprocess.PIPE, env=environment).stdout
    (stage,) = json.loads(said)["stages"]
    phases = stage["phases"]
    return {"all": stage["seconds"], "runtime": phases["prepare linking"], "link": phases["link"]}


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
    runs, machine = report["runs"], report["machine"]
    first, second = report["library_seconds"]["first"], report["library_seconds"]["second"]
    emulator = "lavapipe" if in_float16(report["quantization"]) else "SwiftShader"
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
            f"By `{report['command']}`, "
            f"on {machine['cpu']}, {machine['usable_cpus']} threads, {emulator}, which is WebGPU on the processor. "
            f"The library has {human_size(report['library_bytes'])}, the weights {human_size(report['weight_bytes'])}. "
            f"First link: {human_time(first['runtime'] + first['link'])}, of it {human_time(first['runtime'])} for "
            f"compiling the runtime once. Second link: {human_time(second['link'])}. With the model's own kernels the "
            f"library took {human_time(first['all'])} and {human_time(second['all'])}.",
        ),
    )  # fmt: skip
    words = "\n\n".join(f"> {QUESTION}\n>\n> {run['text'].strip()}" for run in list(runs.values())[-1:])
    return table_markdown(table) + (f"\n\n{words}" if report["model"] != TINY else "") + "\n"


if __name__ == "__main__":
    sys.exit(main())
