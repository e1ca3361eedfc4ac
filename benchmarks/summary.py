"""Samples go in, their median and spread come out; a whole report goes in, lines for people come out."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from argosy.support.text import human_size, human_time


class Sample(TypedDict):
    """A figure that was measured several times."""

    median: float
    min: float
    max: float
    unit: str
    samples: list[float]


def samples(values: Sequence[float], unit: str) -> Sample:
    """Median and spread of `values`, which are kept to five digits."""
    kept = [float(f"{value:.5g}") for value in values]
    median = float(f"{statistics.median(kept):.5g}")
    return {"median": median, "min": min(kept), "max": max(kept), "unit": unit, "samples": kept}


def summarize(report: dict[str, Any]) -> str:
    """The report in some lines."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    machine, build, chat, sizes = (report[name] for name in ("machine", "build", "chat", "sizes"))
    request = report["request"]
    yield f"{request['model']} {request['quantization']} on {machine['cpu']}, {machine['threads']} threads"
    stages = ", ".join(f"{name} {human_time(seconds)}" for name, seconds in build["stages"].items())
    yield f"build        {human_time(build['process_seconds'])} ({stages})"
    peaks = build["peak_bytes"]
    yield f"memory       converting {human_size(peaks['convert'])}, compiling {human_size(peaks['build'])}, " + (
        f"chatting {human_size(chat['peak_bytes'])}"
    )
    yield f"sizes        weights {human_size(sizes['weights'])}, library {human_size(sizes['library'])}"
    yield f"first token  {_times(chat['first_token_seconds'])} after process start, load {_times(chat['load_seconds'])}"
    ratio = report["peer"].get("ratio", {})
    for name, rate in report["speed"].items():
        beside = f"   {ratio[name]['median']:.2f} x llama.cpp" if name in ratio else ""
        yield f"{name:<24} {rate['median']:8.1f} tokens/s  ({rate['min']:.1f} to {rate['max']:.1f}){beside}"
    if "ratio" not in report["peer"]:
        yield f"no peer: {report['peer']['absent']}"
    yield f"took {human_time(report['seconds'])}"


def _times(sample: Sample) -> str:
    return human_time(sample["median"])
