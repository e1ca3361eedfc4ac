"""Wishes go in, everything is measured, and the report comes out: one JSON object.

Schema 3. `engines`: a record each, in the order of the columns; `ratios[ours][rival][case]`: our rate over theirs, turn
by turn; `same_bits[ours]`: the rivals whose weights take as many bits; `roofline`: bytes a second that memory delivers,
and what share of them decoding reads; `chat[ours]`, and `build[ours]` where it was asked for.
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
from argosy.bench.measure import Engine, Speeds
from argosy.bench.peers import Ours, Peer, Rival, gguf_of, rivals_of
from argosy.bench.samples import Sample, ratio, samples
from argosy.bench.workload import Plan, Setup
from argosy.dist.naming import build_command
from argosy.support.errors import ArtefactError, UsageError
from argosy.support.progress import Progress
from argosy.support.threads import compute_threads

SCHEMA = 3


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person asks for. `build`: measure a build from nothing of each artefact as well."""

    artefacts: tuple[Path, ...]
    peers: tuple[Peer, ...]
    plan: Plan
    threads: int | None = None
    build: bool = False


def bench(wishes: Wishes, progress: Progress) -> dict[str, Any]:
    """The report.

    Raises ArgosyError for whatever cannot be measured.
    """
    started = time.perf_counter()
    plan, threads = wishes.plan, _threads(wishes.threads)
    artefacts = _opened(wishes.artefacts, plan)
    rivals = rivals_of(artefacts, wishes.peers)
    source = gguf_of(artefacts) if rivals else None
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model": artefacts[0].manifest.model,
        "threads": threads,
        "plan": asdict(plan),
        "machine": machine.describe(),
        "versions": machine.versions(peer.package for peer in wishes.peers),
    }
    sizes = {"threads": threads, "window": plan.window, "batch": plan.batch, "total": plan.total}
    sizes["vocab_size"] = artefacts[0].vocab_size
    mine = [
        Engine(ours.name, "argosy.bench.worker_argosy", Setup(str(ours.directory.resolve()), **sizes))
        for ours in artefacts
    ]
    facts = {engine.name: measure.facts(engine) for engine in mine}
    if wishes.build:
        report["build"] = {
            ours.name: measure.build(recipe(ours, facts[ours.name]["build"]), progress) for ours in artefacts
        }
    with measure.rival_files(source, rivals, progress) as files:
        engines = mine + [Engine(rival.name, rival.peer.worker, Setup(str(files[rival]), **sizes)) for rival in rivals]
        weights = {rival: measure.run_json(["-m", "argosy.bench.gguf_file", "weigh", files[rival]]) for rival in rivals}
        streams = measure.bandwidth(threads, measure.STREAM_BYTES)
        found = measure.speeds(engines, plan, progress)
        streams += measure.bandwidth(threads, measure.STREAM_BYTES)
        begun = measure.starts(engines, plan, progress)
    report["cases"] = [{"name": case.name, "title": case.title, "tokens": case.tokens} for case in plan.cases()]
    report["engines"] = [
        _ours(ours, found.facts[ours.name]) | begun[ours.name] | _speed(found, ours.name) for ours in artefacts
    ] + [
        _rival(rival, files[rival], weights[rival] | found.facts[rival.name]) | begun[rival.name]
        | _speed(found, rival.name)
        for rival in rivals
    ]  # fmt: skip
    report["ratios"] = ratios(found, [ours.name for ours in artefacts], [rival.name for rival in rivals])
    report["same_bits"] = {
        ours.name: [rival.name for rival in rivals if rival.has_the_bits_of(ours)] for ours in artefacts
    }
    report["roofline"] = _roofline(report["engines"][: len(artefacts)], streams, plan, threads)
    report["chat"] = {ours.name: measure.chat(ours.directory, threads, plan, progress) for ours in artefacts}
    report["machine"]["load_after"] = machine.load()
    report["seconds"] = time.perf_counter() - started
    return report


def _threads(wanted: int | None) -> int:
    most = os.cpu_count() or 1
    if wanted is not None and wanted > most:
        raise UsageError(f"`--threads {wanted}` is more than this machine's {most} CPUs")
    return wanted or compute_threads()


def _opened(directories: Sequence[Path], plan: Plan) -> list[Ours]:
    """The artefacts, checked and able to do what the plan asks for. Their names become those of their engines."""
    from argosy.dist.artefact import open_artefact

    found: list[Ours] = []
    for directory in directories:
        artefact = open_artefact(directory)
        if artefact.manifest is None:
            raise ArtefactError(f"`{directory}` was not built by Argosy: there is no library in it")
        artefact.library()  # says why where none runs here
        window = artefact.config.context_window_size
        if plan.window > window:
            sentence = f"`{directory}` holds `{window}` tokens of context, and `{plan.window}` are asked for"
            raise UsageError(sentence, "give smaller `--contexts` and `--prefill`, or build with a larger window")
        name = f"Argosy {artefact.manifest.quantization}"
        if any(ours.name == name for ours in found):
            name = f"Argosy {artefact.name}"
        if any(ours.directory.resolve() == directory.resolve() for ours in found):
            raise UsageError(f"`{directory}` is given twice")
        found.append(Ours(name, directory, artefact.manifest, artefact.config.vocab_size))
    return found


def recipe(ours: Ours, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a build's `Request` that make this artefact again."""
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


def _rival(rival: Rival, file: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    whole = "every matrix, embedding and head too" if file.suffix == ".gguf" and rival.weights != "as shipped" else ""
    return {
        "name": rival.name,
        "program": rival.peer.name,
        "version": machine.version(rival.peer.package),
        "file": file.name,
        "weights": ", ".join(part for part in (rival.weights, whole) if part),
        **facts,
    }


def _speed(found: Speeds, name: str) -> dict[str, Any]:
    return {"speed": {case: samples(values, "tokens/s") for case, values in found.rates[name].items()}}


def ratios(found: Speeds, ours: Sequence[str], rivals: Sequence[str]) -> dict[str, dict[str, dict[str, Sample]]]:
    """Our rates over the rivals', turn by turn."""
    rates = found.rates
    return {
        mine: {
            rival: {case: ratio(values, rates[rival][case]) for case, values in rates[mine].items()} for rival in rivals
        }
        for mine in ours
    }


def _roofline(engines: Sequence[Mapping[str, Any]], streams: list[float], plan: Plan, threads: int) -> dict[str, Any]:
    """Memory's bytes a second, and for each of our decodes the bytes of a step and the share of that bandwidth."""
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


def shares(engine: Mapping[str, Any], plan: Plan, stream: float) -> dict[str, dict[str, float]]:
    """Case -> bytes that a step reads (weights once, keys and values of every sequence), and the share of `stream`."""
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
    """The command of this process, as a person types it."""
    import shlex

    return shlex.join(["argosy", *sys.argv[1:]])
