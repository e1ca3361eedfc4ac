"""Present a report as tables, for the terminal and for the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from argosy.bench.measure import ALLOWANCE, WEIGHTS_SHARE
from argosy.bench.samples import Measurement, spread
from argosy.support.text import human_size, human_time


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A title, headings, rows, and notes to print below."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def tables(report: Mapping[str, Any]) -> Iterator[ReportTable]:
    """Yield all tables of a report, the most important first."""
    for ours in report["ratios"]:
        yield speed(report, ours)
    yield roofline(report)
    yield engines(report)
    yield chat(report)
    if "build" in report:
        yield build(report)


def setting(report: Mapping[str, Any]) -> str:
    """Describe the model, the machine, the software and the method in one paragraph."""
    machine, versions, plan = report["machine"], report["versions"], report["plan"]
    peers = {engine["program"]: engine["version"] for engine in report["engines"] if engine["program"] != "argosy"}
    others = "".join(f", {program} {version}" for program, version in peers.items())
    busy = machine["load_before"][0] > report["threads"] / 2
    warning = " The machine was busy: figures other than memory are unreliable." if busy else ""
    commit = f" ({versions['commit']})" if versions["commit"] else ""
    return (
        f"{report['model']} on {machine['cpu']}, {report['threads']} threads, {human_size(machine['memory_bytes'])} of "
        f"memory, {machine['system']}, {report['when'][:10]}. Argosy {versions['argosy']}{commit}, TVM "
        f"{versions['apache-tvm']}{others}, Python {versions['python']}. Medians of {plan['repeats']} turns, "
        f"± half the range; a ratio is taken within each turn. Load of the machine before and after: "
        f"{machine['load_before'][0]}, {machine['load_after'][0]}.{warning}"
    )


def peers_shown(report: Mapping[str, Any], ours: str) -> list[str]:
    """List the peers shown beside `ours`: equal bits first; after the first artefact only those, if there are any."""
    same, every = report["same_bits"][ours], list(report["ratios"][ours])
    others = [peer for peer in every if peer not in same]
    return list(same) if same and ours != next(iter(report["ratios"])) else [*same, *others]


def speed(report: Mapping[str, Any], ours: str) -> ReportTable:
    """Tabulate the tokens per second of `ours` and its peers, with our ratio to each."""
    by_name = {engine["name"]: engine for engine in report["engines"]}
    peers, same = peers_shown(report, ours), report["same_bits"][ours]
    headings = [f"{peer} (same bits)" if peer in same else peer for peer in peers]
    rows = []
    for case in report["cases"]:
        row = [case["title"], _rate(by_name[ours]["speed"][case["name"]])]
        for peer in peers:
            times = report["ratios"][ours][peer][case["name"]]["median"]
            row.append(f"{_rate(by_name[peer]['speed'][case['name']])} → {times:.2f}x")
        rows.append(tuple(row))
    notes = ("→: how many times as fast Argosy is.",) if peers else ()
    return ReportTable(f"Speed of {ours}", ("tokens per second", ours, *headings), tuple(rows), notes)


def roofline(report: Mapping[str, Any]) -> ReportTable:
    """Tabulate the share of memory bandwidth that decoding reaches."""
    found, titles = report["roofline"], {case["name"]: case["title"] for case in report["cases"]}
    stream = found["stream"]["median"]
    rows = [
        (f"{name}: {titles[case]}", human_size(share["step_bytes"]), f"{1000 * share['step_bytes'] / stream:.1f} ms",
         f"{100 * share['share']:.0f} %")
        for name, engine in found["engines"].items()
        for case, share in engine["decode"].items()
    ]  # fmt: skip
    again = ", ".join(
        f"{human_size(round(engine['reread']['median']))}/s for {name}" for name, engine in found["engines"].items()
    )
    notes = (
        f"Memory delivers {human_size(round(stream))}/s to {report['threads']} threads that read "
        f"{human_size(found['stream_bytes'])} (± {100 * spread(found['stream']):.0f} %). A buffer as large as the "
        f"weights, read repeatedly, which caches help: {again}.",
    )
    return ReportTable("Roofline", ("decode", "bytes a step", "at that bandwidth", "share reached"), tuple(rows), notes)


def engines(report: Mapping[str, Any]) -> ReportTable:
    """Tabulate the engines: weights, start-up times, memory."""
    rows = []
    for engine in report["engines"]:
        kv = engine.get("kv_bytes_per_token")
        rows.append(
            (
                engine["name"], engine["weights"], human_size(engine["weights_bytes"]),
                f"{human_size(kv)} a token" if kv else "unknown", _time(engine["load_seconds"]),
                _time(engine["first_token_seconds"]), human_size(engine["peak_bytes"]),
            )
        )  # fmt: skip
    headings = ("engine", "matrices", "weights", "KV cache", "load", "first token", "peak memory")
    plan = report["plan"]
    notes = (
        f"Load and first token: from the start of a fresh process, with a prompt of 32 tokens. Peak memory: after all "
        f"requests of this run, with room for {plan['batch']} sequence{'' if plan['batch'] == 1 else 's'}.",
    )
    return ReportTable("What ran", headings, tuple(rows), notes)


def chat(report: Mapping[str, Any]) -> ReportTable:
    """Tabulate fresh `argosy chat` processes."""
    rows = []
    for name, found in report["chat"].items():
        tokens = found["kv_cache_tokens"]
        rows.append(
            (
                name, _time(found["load_seconds"]), _time(found["first_token_seconds"]),
                human_size(found["weights_bytes"]),
                f"{human_size(found['kv_cache_bytes'])}, {tokens['held']} of {tokens['room']} tokens filled",
                human_size(found["peak_bytes"]), human_size(found["bound_bytes"]),
            )
        )  # fmt: skip
    headings = ("load, every byte checked", "process start to first token", "weights", "KV cache", "peak memory")
    notes = (
        f"Bound: what the peak should stay below, {WEIGHTS_SHARE} x weights + KV cache + {human_size(ALLOWANCE)}. The "
        "part of the cache without tokens is reserved and takes no memory yet.",
    )
    return ReportTable("Chat", ("chat", *headings, "bound"), tuple(rows), notes)


def build(report: Mapping[str, Any]) -> ReportTable:
    """Tabulate builds from scratch."""
    headings = ("build", "whole process", "stages", "memory: converting", "all", "weights", "library")
    rows = []
    for name, found in report["build"].items():
        stages = ", ".join(f"{stage} {human_time(seconds)}" for stage, seconds in found["stages"].items())
        peaks, sizes = found["peak_bytes"], found["sizes"]
        rows.append(
            (
                name, human_time(found["process_seconds"]), stages, human_size(peaks["convert"]),
                human_size(peaks["build"]), human_size(sizes["weights"]), human_size(sizes["library"]),
            )
        )  # fmt: skip
    return ReportTable("Build", headings, tuple(rows))


def markdown(table: ReportTable) -> str:
    """Format a table as Markdown, with a heading."""
    lines = [table.headings, ("---",) * len(table.headings), *table.rows]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return "\n\n".join([f"## {table.title}", text, *table.notes])


def _rate(measurement: Measurement) -> str:
    digits = 1 if measurement["median"] < 99.95 else 0
    return f"{measurement['median']:.{digits}f} ± {100 * spread(measurement):.0f} %"


def _time(measurement: Measurement) -> str:
    several: Sequence[float] = measurement["samples"]
    return human_time(measurement["median"]) + (f" ± {100 * spread(measurement):.0f} %" if len(several) > 1 else "")
