"""The benchmark's own parts, without a model: samples, child processes, the summary and the page of a report."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
PROGRAMS = ("machine", "page", "processes", "quick", "summary")


@pytest.fixture(scope="module")
def programs() -> Any:
    """The modules of `benchmarks/`, which is no package, and forgotten again afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: __import__(name) for name in PROGRAMS}
    for name in PROGRAMS:
        del sys.modules[name]


def report_of(programs: dict[str, ModuleType], with_peer: bool) -> dict[str, Any]:
    """A report as `quick.py` writes it, with rates 10, 20, ... and a peer that is half as fast."""
    quick, summary = programs["quick"], programs["summary"]
    rates = {case.name: [10.0 * (row + 1), 10.0 * (row + 1)] for row, case in enumerate(quick.CASES)}
    slower = {name: [value / 2 for value in values] for name, values in rates.items()}
    speed = {name: summary.samples(values, "tokens/s") for name, values in rates.items()}
    peer = {"name": "llama.cpp", "version": "1", "weights": "m.gguf, as shipped", "weights_bytes": 5, "speed": speed,
            "ratio": quick.ratios(rates, slower)}  # fmt: skip
    one = summary.samples([1.0, 3.0, 2.0], "s")
    return {
        "when": "2020-02-02T00:00:00+00:00",
        "request": {"model": "m", "quantization": "q", "repeats": 2},
        "machine": {**programs["machine"].describe(), "load_after": [0.0, 0.0, 0.0]},
        "versions": programs["machine"].versions(),
        "build": {
            "process_seconds": 5.0,
            "stages": {"convert": 1.0, "link": 2.0},
            "peak_bytes": {"convert": 1, "build": 2},
        },
        "sizes": {"weights": 1, "library": 2},
        "chat": {"first_token_seconds": one, "load_seconds": one, "peak_bytes": 3},
        "speed": speed,
        "peer": peer if with_peer else {"absent": "not asked for"},
        "seconds": 1.0,
    }


def test_samples_keep_every_value_and_their_median(programs: dict[str, ModuleType]) -> None:
    found = programs["summary"].samples([3.0, 1.0, 2.000001], "s")
    assert found == {"median": 2.0, "min": 1.0, "max": 3.0, "unit": "s", "samples": [3.0, 1.0, 2.0]}


def test_ratios_are_taken_within_each_turn(programs: dict[str, ModuleType]) -> None:
    found = programs["quick"].ratios({"a": [1.0, 10.0, 4.0]}, {"a": [1.0, 5.0, 1.0]})
    assert found["a"]["samples"] == [1.0, 2.0, 4.0] and found["a"]["median"] == 2.0


@pytest.mark.parametrize("with_peer", [True, False])
def test_a_report_is_json_and_has_a_summary_and_a_page(programs: dict[str, ModuleType], with_peer: bool) -> None:
    report = json.loads(json.dumps(report_of(programs, with_peer)))
    for text in (programs["summary"].summarize(report), programs["page"].page(report)):
        for rate in ("10.0", "20.0", "30.0", "40.0", "50.0"):
            assert rate in text
        assert ("2.00" in text) == with_peer
    page = programs["page"].page(report)
    columns = {line.count("|") for line in page.splitlines() if re.match(r"\| (prefill|decode|tokens)", line)}
    assert columns == {5 if with_peer else 3}


def test_a_process_is_timed_and_weighed(programs: dict[str, ModuleType]) -> None:
    program = "import time; print('a', flush=True); x = b'x' * 60_000_000; time.sleep(0.2); print('b')"
    found = programs["processes"].run_measured(["-c", program])
    assert found.stdout == "a\nb\n" and found.seconds >= found.first_byte_seconds + 0.2
    assert found.peak_bytes > 60e6


def test_a_process_that_fails_is_one_sentence_and_its_last_words(programs: dict[str, ModuleType]) -> None:
    processes = programs["processes"]
    with pytest.raises(processes.Failed, match=r"ended with exit code 3\nerror: no such model"):
        processes.run_measured(["-c", "import sys; print('error: no such model', file=sys.stderr); sys.exit(3)"])
    server = processes.Server(["-c", "print('{}', flush=True); input()"])
    with server, pytest.raises(processes.Failed, match="ended with exit code"):
        server.ask({"do": "prefill"})
