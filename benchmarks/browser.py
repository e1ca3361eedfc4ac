"""Benchmark an artefact in Node and in Chromium; write JSON, and Markdown with the answer.

    python benchmarks/browser.py --output dist/out/bench/web.json --markdown web.md
    python benchmarks/browser.py --model smollm2-135m --tokens 16 --output dist/out/bench/web-smollm2.json

The default model is the 2-layer llama of tests/web. WebGPU is emulated on the CPU, for Node and Chromium alike: by
SwiftShader, or by lavapipe for schemes of 16-bit floats. The figures compare versions of this project on one machine;
they say nothing about a GPU.
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
from argosy.bench.tables import ReportTable
from argosy.bench.tables import markdown as table_markdown
from argosy.compiler.targets.table import BROWSER_TARGET
from argosy.dist.manifest import read_manifest
from argosy.quant.scheme import scheme_named
from argosy.support.files import write_bytes_atomic, write_json_atomic
from argosy.support.text import human_size, human_time

SCHEMA = "argosy-web-bench/2"
TINY = "2-layer llama"
QUESTION = "What is the capital of France?"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Benchmark an artefact in Node and in Chromium, on the CPU.")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the JSON file to write")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where to write a section of docs/performance.md")
    parser.add_argument("--model", metavar="M", help="default: the tiny model of the tests")
    parser.add_argument("--quantization", default="q4f32_1", choices=BROWSER_TARGET.schemes, metavar="Q")
    parser.add_argument("--tokens", type=int, default=64, metavar="N", help="length of an answer")
    parser.add_argument("--context-window", type=int, default=CONTEXT, metavar="N")
    options = parser.parse_args()
    reason = missing_float16_chromium() if in_float16(options.quantization) else missing_chromium()
    if reason is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        report = measure(options, Path(work))
    write_json_atomic(options.output, report)
    if options.markdown is not None:
        write_bytes_atomic(options.markdown, markdown(report).encode())
    print(markdown(report))
    print(options.output)
    return 0


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Measure everything, one after the other; the machine should be otherwise idle."""
    model = options.model or str(save_letters_checkpoint(work / "tiny"))
    directory = work / "artefact"
    builds = [compile_library(model, options, directory, work / "cache") for _ in range(2)]
    library = directory / read_manifest(directory).libraries[BROWSER_TARGET.name].file
    subprocess.run([str(program("npm")), "run", "--silent", "build"], cwd=WEB, env=node_environment(), check=True)
    generation = {"temperature": 0, "max_tokens": options.tokens, "ignore_eos": options.model is None}
    talk = {"prompts": [QUESTION], "generation": generation}
    report: dict[str, Any] = {
        "schema": SCHEMA, "command": command_line(options),
        "model": options.model or TINY, "quantization": options.quantization,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"), "machine": describe(), "versions": versions(),
        "library_bytes": library.stat().st_size,
        "weight_bytes": sum(path.stat().st_size for path in directory.glob("params_shard_*.bin")),
        "library_seconds": {"first": builds[0], "second": builds[1]},
    }  # fmt: skip
    icd, driver = (LAVAPIPE, LAVAPIPE_GPU) if in_float16(options.quantization) else (SWIFTSHADER, None)
    runner = WEB / "test" / "node" / "run.mjs"
    report["runs"] = {"Node": figures(run_node(runner, str(directory), timeout=3000, icd=icd, **talk))}
    with served(directory) as server:
        page = {"url": server.url, "binding": WEB / "dist", "profile": work / "profile", "driver": driver, "loads": 2}
        seen = drive("transcript", timeout=3000, **page, **talk)
    for name, run in zip(("Chromium, first visit", "Chromium, second visit"), seen["runs"], strict=True):
        report["runs"][name] = figures(run)
    return report


def command_line(options: argparse.Namespace) -> str:
    """Return the command that repeats the benchmark."""
    model = f" --model {options.model}" if options.model else ""
    return f"python benchmarks/browser.py{model} --quantization {options.quantization} --tokens {options.tokens}"


def in_float16(quantization: str) -> bool:
    """Return whether a scheme computes in 16-bit floats."""
    return scheme_named(quantization).plain.dtype == "float16"


def compile_library(model: str, options: argparse.Namespace, directory: Path, cache: Path) -> dict[str, float]:
    """Time compiling a library, linking it, and compiling the runtime if it is not in `cache` yet.

    Weights and config are written first, if they are not up to date.
    """
    command = [sys.executable, "-m", "argosy.cli"]
    common = ["--model", model, "--quantization", options.quantization, "--output", str(directory)]
    bounds = ["--context-window", str(options.context_window)]
    environment = {**os.environ, "ARGOSY_CACHE": str(cache)}
    for part in ("convert", "config"):
        subprocess.run([*command, part, *common, *(bounds if part == "config" else [])], check=True, stdout=sys.stderr)
    last = [*command, "compile", *common, *bounds, "--target", BROWSER_TARGET.name, "--force", "--json"]
    printed = subprocess.run(last, check=True, stdout=subprocess.PIPE, env=environment).stdout
    (stage,) = json.loads(printed)["stages"]
    phases = stage["phases"]
    return {"all": stage["seconds"], "runtime": phases["prepare linking"], "link": phases["link"]}


def figures(run: dict[str, Any]) -> dict[str, Any]:
    """Extract the figures of one load and one answer, in seconds and tokens per second."""
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
    """Format the report as a section of docs/performance.md."""
    runs, machine = report["runs"], report["machine"]
    first, second = report["library_seconds"]["first"], report["library_seconds"]["second"]
    emulator = "lavapipe" if in_float16(report["quantization"]) else "SwiftShader"
    rows = {
        "Loading": lambda run: human_time(run["load"]),
        "including shader compilation": lambda run: human_time(run["shaders"]),
        "First token, from the start of loading": lambda run: human_time(run["first_token"]),
        "First token, after the question": lambda run: human_time(run["first_token_after_asking"]),
        "Decode, tokens/s": lambda run: f"{run['decode_rate']:.3g}",
    }
    table = ReportTable(
        f"In a browser: {report['model']}, {report['quantization']}", ("", *runs),
        tuple((label, *(show(run) for run in runs.values())) for label, show in rows.items()),
        (
            f"By `{report['command']}`, "
            f"on {machine['cpu']}, {machine['usable_cpus']} threads, {emulator}, which emulates WebGPU on the CPU. "
            f"The library has {human_size(report['library_bytes'])}, the weights {human_size(report['weight_bytes'])}. "
            f"First link: {human_time(first['runtime'] + first['link'])}, including {human_time(first['runtime'])} to "
            f"compile the runtime once. Second link: {human_time(second['link'])}. With the model's own kernels the "
            f"library took {human_time(first['all'])} and {human_time(second['all'])}.",
        ),
    )  # fmt: skip
    words = "\n\n".join(f"> {QUESTION}\n>\n> {run['text'].strip()}" for run in list(runs.values())[-1:])
    return table_markdown(table) + (f"\n\n{words}" if report["model"] != TINY else "") + "\n"


if __name__ == "__main__":
    sys.exit(main())
