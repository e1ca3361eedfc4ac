"""Samples go in, their median and spread, and their ratios to a peer's samples, come out."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


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


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Sample:
    """Our rates over the peer's, turn by turn."""
    return samples([mine / other for mine, other in zip(ours, theirs, strict=True)], "ratio")


def spread(sample: Sample) -> float:
    """Half the range, relative to the median."""
    return (sample["max"] - sample["min"]) / 2 / sample["median"] if sample["median"] else 0.0
