"""Run a benchmark and assemble its report, one JSON object.

Schema 3. `engines`: one record each, in the order of the columns; `ratios[ours][peer][case]`: our rate over theirs,
turn by turn; `same_bits[ours]`: the peers whose weights take as many bits; `roofline`: memory bandwidth in bytes per
second, and the share of it that decoding reaches; `chat[ours]`; `build[ours]`, if requested.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from argosy.bench import machine, measure
from argosy.bench.measure import EngineCommand, Speeds
from argosy.bench.peers import Ours, Peer, PeerProgram, gguf_of, peers_of
from argosy.bench.samples import Measurement, ratio, samples
from argosy.bench.workload import BenchmarkPlan, Setup
from argosy.dist.naming import build_command
from argosy.support.errors import ArtefactError, UsageError
from argosy.support.progress import Progress
from argosy.support.threads import compute_threads

SCHEMA = 3


@dataclass(frozen=True, slots=True)
class BenchmarkRequest:
    """What to measure. `build`: also time a build from scratch of each artefact."""

    artefacts: tuple[Path, ...]
    programs: tuple[PeerProgram, ...]
    plan: BenchmarkPlan
    threads: int | None = None
    build: bool = False


def bench(request: BenchmarkRequest, progress: Progress) -> dict[str, Any]:
    """Measure everything and return the report.

    Raises ArgosyError for anything that cannot be measured.
    """
    started = time.perf_counter()
    plan, threads = request.plan, _threads(request.threads)
    artefacts = _opened(request.artefacts, plan)
    peers = peers_of(artefacts, request.programs)
    source = gguf_of(artefacts) if peers else None
    report = _header(request, artefacts[0].manifest.model, threads)
    sizes = {"threads": threads, "window": plan.window, "batch": plan.batch, "total": plan.total}
    sizes["vocab_size"] = artefacts[0].vocab_size
    mine = [
        EngineCommand(ours.name, "argosy.bench.worker_argosy", Setup(str(ours.directory.resolve()), **sizes))
        for ours in artefacts
    ]
    facts = {engine.name: measure.facts(engine) for engine in mine}
    if request.build:
        report["build"] = {
            ours.name: measure.build(recipe(ours, facts[ours.name]["build"]), progress) for ours in artefacts
        }
    with measure.peer_files(source, peers, progress) as files:
        engines = mine + [
            EngineCommand(peer.name, peer.program.worker, Setup(str(files[peer]), **sizes)) for peer in peers
        ]
        weights = {peer: measure.run_json(["-m", "argosy.bench.gguf_file", "weigh", files[peer]]) for peer in peers}
        streams = measure.bandwidth(threads, measure.STREAM_BYTES)
        found = measure.speeds(engines, plan, progress)
        streams += measure.bandwidth(threads, measure.STREAM_BYTES)
        begun = measure.starts(engines, plan, progress)
    report["cases"] = [{"name": case.name, "title": case.title, "tokens": case.tokens} for case in plan.cases()]
    report["engines"] = [
        _ours(ours, found.facts[ours.name]) | begun[ours.name] | _speed(found, ours.name) for ours in artefacts
    ] + [
        _peer(peer, files[peer], {**weights[peer], **found.facts[peer.name]}) | begun[peer.name]
        | _speed(found, peer.name)
        for peer in peers
    ]  # fmt: skip
    report["ratios"] = ratios(found, [ours.name for ours in artefacts], [peer.name for peer in peers])
    report["same_bits"] = {
        ours.name: [peer.name for peer in peers if peer.has_the_bits_of(ours)] for ours in artefacts
    }
    report["roofline"] = _roofline(report["engines"][: len(artefacts)], streams, plan, threads)
    report["chat"] = {ours.name: measure.chat(ours.directory, threads, plan, progress) for ours in artefacts}
    report["machine"]["load_after"] = machine.load()
    report["seconds"] = time.perf_counter() - started
    return report


def _header(request: BenchmarkRequest, model: str, threads: int) -> dict[str, Any]:
    """Begin the report: what is measured, when, on what machine, with what software."""
    return {
        "schema": SCHEMA,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": model,
        "threads": threads,
        "plan": asdict(request.plan),
        "machine": machine.describe(),
        "versions": machine.versions(program.package for program in request.programs),
    }


def _threads(wanted: int | None) -> int:
    most = os.cpu_count() or 1
    if wanted is not None and wanted > most:
        raise UsageError(f"`--threads {wanted}` is more than this machine's {most} CPUs")
    return wanted or compute_threads()


def _opened(directories: Sequence[Path], plan: BenchmarkPlan) -> list[Ours]:
    """Open the artefacts and check that they can run the plan; their names become those of their engines."""
    from argosy.dist.artefact import open_artefact

    found: list[Ours] = []
    for directory in directories:
        artefact = open_artefact(directory)
        if artefact.manifest is None:
            raise ArtefactError(f"`{directory}` was not built by Argosy: there is no library in it")
        artefact.library()  # raises if none runs here
        window = artefact.config.context_window_size
        if plan.window > window:
            sentence = f"`{directory}` holds `{window}` tokens of context, but the benchmark needs `{plan.window}`"
            raise UsageError(sentence, "give smaller `--contexts` and `--prefill`, or build with a larger window")
        name = f"Argosy {artefact.manifest.quantization}"
        if any(ours.name == name for ours in found):
            name = f"Argosy {artefact.name}"
        if any(ours.directory.resolve() == directory.resolve() for ours in found):
            raise UsageError(f"`{directory}` is given twice")
        found.append(Ours(name, directory, artefact.manifest, artefact.config.vocab_size))
    return found


def recipe(ours: Ours, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the `BuildRequest` that makes this artefact again."""
    manifest = ours.manifest
    assert manifest.weights is not None
    return {
        "model": manifest.model,
        "quantization": manifest.quantization,
        "rounding": manifest.weights.rounding,
        **settings,
    }


def _ours(ours: Ours, facts: Mapping[str, Any]) -> dict[str, Any]:
    build = facts["build"]
    (target,) = build["targets"]
    settings = f"--activations {build['activations']} --kv {build['kv']}"
    return {
        "name": ours.name,
        "program": "argosy",
        "version": ours.manifest.argosy_version,
        "file": ours.directory.name,
        "weights": f"{ours.scheme}, {build['activations']} activations",
        "command": f"{build_command(ours.manifest.model, target, ours.scheme)} {settings}",
        **facts,
    }


def _peer(peer: Peer, file: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    whole = "every matrix, embedding and head too" if file.suffix == ".gguf" and peer.weights != "as shipped" else ""
    return {
        "name": peer.name,
        "program": peer.program.name,
        "version": machine.version(peer.program.package),
        "file": file.name,
        "weights": ", ".join(part for part in (peer.weights, whole) if part),
        **facts,
    }


def _speed(found: Speeds, name: str) -> dict[str, Any]:
    return {"speed": {case: samples(values, "tokens/s") for case, values in found.rates[name].items()}}


def ratios(found: Speeds, ours: Sequence[str], peers: Sequence[str]) -> dict[str, dict[str, dict[str, Measurement]]]:
    """Divide our rates by the peers', turn by turn."""
    rates = found.rates
    return {
        mine: {
            peer: {case: ratio(values, rates[peer][case]) for case, values in rates[mine].items()} for peer in peers
        }
        for mine in ours
    }


def _roofline(
    engines: Sequence[Mapping[str, Any]], streams: list[float], plan: BenchmarkPlan, threads: int
) -> dict[str, Any]:
    """Return memory bandwidth, and for our decodes the bytes of a step and the share of bandwidth reached."""
    again = {engine["name"]: measure.bandwidth(threads, engine["step_weights_bytes"]) for engine in engines}
    stream = samples(streams, "bytes/s")
    return {
        "stream": stream,
        "stream_bytes": measure.STREAM_BYTES,
        "engines": {
            engine["name"]: {
                "reread": samples(again[engine["name"]], "bytes/s"),
                "decode": shares(engine, plan, stream["median"]),
            }
            for engine in engines
        },
    }


def shares(engine: Mapping[str, Any], plan: BenchmarkPlan, stream: float) -> dict[str, dict[str, float]]:
    """Return by case the bytes a step reads (weights once, all keys and values) and their share of `stream`."""
    found = {}
    for case in plan.cases():
        if case.request["do"] != "decode":
            continue
        batch, tokens = case.request["batch"], case.request["context"] + case.request["steps"] / 2
        nbytes = engine["step_weights_bytes"] + batch * tokens * engine["kv_bytes_per_token"]
        steps = engine["speed"][case.name]["median"] / batch
        found[case.name] = {"step_bytes": round(nbytes), "share": round(steps * nbytes / stream, 4)}
    return found


def command_line() -> str:
    """Return the command of this process as typed in a shell."""
    import shlex

    return shlex.join(["argosy", *sys.argv[1:]])
