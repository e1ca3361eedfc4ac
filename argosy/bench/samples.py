"""Summarize samples: median, spread, and ratio to a peer's samples."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TypedDict


class Measurement(TypedDict):
    """A figure that was measured several times."""

    median: float
    min: float
    max: float
    unit: str
    samples: list[float]


def samples(values: Sequence[float], unit: str) -> Measurement:
    """Summarize `values`, rounded to five digits."""
    kept = [float(f"{value:.5g}") for value in values]
    median = float(f"{statistics.median(kept):.5g}")
    return {"median": median, "min": min(kept), "max": max(kept), "unit": unit, "samples": kept}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Measurement:
    """Divide our rates by the peer's, turn by turn."""
    return samples([mine / other for mine, other in zip(ours, theirs, strict=True)], "ratio")


def spread(measurement: Measurement) -> float:
    """Return half the range, relative to the median."""
    return (measurement["max"] - measurement["min"]) / 2 / measurement["median"] if measurement["median"] else 0.0
