"""The parts of the benchmark that need no model: plans, samples, child processes, tables, the plot and the page."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from argosy.bench import machine, peers, plot, processes, run, tables
from argosy.bench.measure import Speeds
from argosy.bench.peers import PEER_PROGRAMS, Ours, Peer
from argosy.bench.samples import samples, spread
from argosy.bench.worker_argosy import step_weights_bytes
from argosy.bench.workload import QUICK, WARM_UP, BenchmarkPlan, SteppingEngine, answers, token_ids
from argosy.cli.app import cli
from argosy.dist.manifest import Manifest, WeightsRecord
from argosy.support.errors import ArgosyError, UsageError

PLAN = BenchmarkPlan(contexts=(8, 512), prefills=(128,), batch=4, repeats=2)
OURS, KEPT = "Argosy q4f16_1", "Argosy keep"


@pytest.fixture(scope="module")
def page() -> ModuleType:
    """Load benchmarks/page.py, a program outside all packages."""
    path = Path(__file__).parents[2] / "benchmarks" / "page.py"
    spec = importlib.util.spec_from_file_location("benchmark_page", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def ours(scheme: str, digest: str = "d", model: str = "m.gguf") -> Ours:
    return Ours(f"Argosy {scheme}", Path(scheme), Manifest(model, scheme, digest), 100)


def report_of(
    schemes: tuple[str, ...] = ("q4f16_1", "keep"), names: tuple[str, ...] = ("llama.cpp",)
) -> dict[str, Any]:
    """Make a report: rates 10, 20, ... by case for Argosy, half of them for Q4_0 peers, a quarter for shipped ones."""
    artefacts = [ours(scheme) for scheme in schemes]
    others = peers.peers_of(artefacts, [PEER_PROGRAMS[name] for name in names])
    share = {one.name: 1.0 for one in artefacts}
    share |= {peer.name: 0.25 if "shipped" in peer.name else 0.5 for peer in others}
    rates = {
        name: {case.name: [10.0 * (row + 1) * by] * 2 for row, case in enumerate(PLAN.cases())}
        for name, by in share.items()
    }
    second = samples([1.0, 3.0, 2.0], "s")
    engines = [
        {
            "name": name, "program": name.split()[0].lower(), "version": "9.9", "weights": name.split(" ", 1)[1],
            "command": "argosy build --model m", "weights_bytes": 5, "step_weights_bytes": 1000,
            "kv_bytes_per_token": 10, "peak_bytes": 7, "load_seconds": second, "first_token_seconds": second,
            "speed": {case: samples(values, "tokens/s") for case, values in cases.items()},
        }
        for name, cases in rates.items()
    ]  # fmt: skip
    mine = [one.name for one in artefacts]
    decode = {name: run.shares(engine, PLAN, 1e6) for name, engine in zip(mine, engines, strict=False)}
    stream = samples([1e6], "bytes/s")
    report = {
        "schema": run.SCHEMA, "when": "2020-02-02T00:00:00+00:00", "model": "m", "threads": 2,
        "command": "argosy bench",
        "plan": {"repeats": 2, "batch": 4}, "plot": "p.svg",
        "machine": {**machine.describe(), "load_before": [0.1] * 3, "load_after": [2.0] * 3},
        "versions": machine.versions(),
        "cases": [{"name": case.name, "title": case.title, "tokens": case.tokens} for case in PLAN.cases()],
        "engines": engines,
        "ratios": run.ratios(Speeds(rates, {}), mine, [peer.name for peer in others]),
        "same_bits": {one.name: [peer.name for peer in others if peer.has_the_bits_of(one)] for one in artefacts},
        "roofline": {"stream": stream, "stream_bytes": 10**9,
                     "engines": {name: {"reread": stream, "decode": found} for name, found in decode.items()}},
        "chat": {name: {"load_seconds": second, "first_token_seconds": second, "peak_bytes": 3, "weights_bytes": 10**8,
                        "kv_cache_bytes": 20, "kv_cache_tokens": {"held": 3, "room": 9}, "bound_bytes": 280_000_020}
                 for name in mine},
        "build": {mine[0]: {"process_seconds": 5.0, "stages": {"convert": 1.0, "link": 2.0},
                            "peak_bytes": {"convert": 1, "build": 2}, "sizes": {"weights": 1, "library": 2}}},
    }  # fmt: skip
    return dict(json.loads(json.dumps(report)))


# -- plans and requests


def test_a_plan_has_its_cases_and_room_for_them() -> None:
    assert [case.name for case in PLAN.cases()] == ["decode_8", "decode_512", "decode_8_batch_4", "prefill_128"]
    assert [case.tokens for case in PLAN.cases()] == [64, 64, 256, 128]
    assert PLAN.window == 512 + 64 and PLAN.total == 576
    assert BenchmarkPlan(contexts=(8,), prefills=(40,), batch=8).total == 8 * (8 + 64)
    assert not [case for case in BenchmarkPlan(batch=1).cases() if "batch" in case.name]
    assert len(BenchmarkPlan(**QUICK).cases()) == 5


class Counting(SteppingEngine):
    """An engine that records its calls."""

    vocab_size = 50

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def clear(self) -> None:
        self.told.append(("clear",))

    def read(self, sequence: int, tokens: list[int]) -> None:
        self.told.append(("read", sequence, len(tokens)))

    def step(self, tokens: list[int], position: int) -> None:
        self.told.append(("step", len(tokens), position))

    def cut(self, batch: int, position: int, steps: int) -> None:
        self.told.append(("cut", batch, position, steps))


def grown(steps: int) -> list[tuple[Any, ...]]:
    """Return the calls that extend two sequences of five tokens by some steps, and truncate them."""
    return [*(("step", 2, 5 + step) for step in range(steps)), ("cut", 2, 5, steps)]


def test_what_a_decode_stands_on_is_read_once_until_something_else_is_asked() -> None:
    engine = Counting()
    decode = json.dumps({"do": "decode", "context": 5, "batch": 2, "steps": 2})
    steps = [*grown(WARM_UP), *grown(2)]
    found = list(answers(engine, iter([decode, decode, json.dumps({"do": "prefill", "tokens": 3}), decode])))
    read = [("clear",), ("read", 0, 5), ("read", 1, 5)]
    assert engine.told == [*read, *steps, *steps, ("clear",), ("read", 0, 3), *read, *steps]
    assert all(answer["seconds"] >= 0 for answer in found)
    (memory,) = answers(engine, iter([json.dumps({"do": "memory"})]))
    assert memory["peak_bytes"] > 1e6


def test_token_ids_are_in_the_vocabulary_and_differ() -> None:
    ids = token_ids(40, 50)
    assert len(set(ids)) == 40 and set(ids) <= set(range(50))


# -- peers


def test_peers_have_the_bits_of_the_artefacts_and_those_of_the_file() -> None:
    llama = PEER_PROGRAMS["llama.cpp"]
    others = peers.peers_of([ours("q4f16_1"), ours("keep")], [llama])
    assert [peer.name for peer in others] == ["llama.cpp Q4_0", "llama.cpp as shipped"]
    assert [peer.has_the_bits_of(ours("q4f16_1")) for peer in others] == [True, False]
    assert [peer.has_the_bits_of(ours("keep")) for peer in others] == [False, True]
    assert [peer.name for peer in peers.peers_of([ours("keep")], [llama])] == ["llama.cpp as shipped"]
    assert peers.peers_of([ours("q3f16_1")], [llama]) == (Peer(llama, "as shipped"),)
    assert peers.peers_of([ours("q4f16_1")], []) == ()


def test_peers_need_one_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="different checkpoints"):
        peers.gguf_of([ours("q4f16_1", "a"), ours("keep", "b")])
    with pytest.raises(UsageError, match="is not"):
        peers.gguf_of([ours("q4f16_1", model=str(tmp_path))])
    file = tmp_path / "m.gguf"
    file.touch()
    assert peers.gguf_of([ours("q4f16_1", model=str(file))]) == file


def test_a_peer_that_is_not_known_or_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"unknown program `lama\.cpp`") as caught:
        peers.programs_named(["lama.cpp"])
    assert caught.value.hint == "did you mean `llama.cpp`?"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="`openvino-genai` is not installed") as caught:
        peers.programs_named(["openvino"])
    assert caught.value.hint == "pip install openvino-genai"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--contexts", "8,x"], "`8,x` is not a list of whole numbers"),
        (["--prefill", "0"], "`0` is not a list of whole numbers"),
        (["--plot", "a.gif"], "`--plot a.gif` has neither of the endings .svg and .png"),
        (["--json", "none/a.json"], "there is no directory `none`"),
        (["--vs", "ollama"], "unknown program `ollama`"),
        (["--repeats", "0"], "0"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_runs(arguments: list[str], sentence: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "nowhere", *arguments])
    assert result.exit_code == 2 and sentence in result.stderr and "Traceback" not in result.stderr


# -- figures


def test_samples_keep_every_value_and_their_median() -> None:
    found = samples([3.0, 1.0, 2.000001], "s")
    assert found == {"median": 2.0, "min": 1.0, "max": 3.0, "unit": "s", "samples": [3.0, 1.0, 2.0]}
    assert spread(found) == 0.5


def test_ratios_are_taken_within_each_turn() -> None:
    rates = {"a": {"x": [1.0, 10.0, 4.0]}, "b": {"x": [1.0, 5.0, 1.0]}}
    found = run.ratios(Speeds(rates, {}), ["a"], ["b"])["a"]["b"]["x"]
    assert found["samples"] == [1.0, 2.0, 4.0] and found["median"] == 2.0


def test_a_decode_reads_all_weights_and_the_keys_and_values_of_each_sequence() -> None:
    found = report_of()["roofline"]["engines"][OURS]["decode"]
    assert found["decode_512"] == {"step_bytes": 1000 + (512 + 32) * 10, "share": round(20 * 6440 / 1e6, 4)}
    assert found["decode_8_batch_4"]["step_bytes"] == 1000 + 4 * (8 + 32) * 10
    assert found["decode_8_batch_4"]["share"] == round(30 / 4 * 2600 / 1e6, 4)


def test_an_embedding_that_is_not_the_output_matrix_is_not_read_by_a_step() -> None:
    embedding, head = ("model.embed_tokens.q_weight", (4, 8), "uint32"), ("lm_head.q_weight", (4, 8), "uint32")
    assert step_weights_bytes([embedding]) == 128 and step_weights_bytes([embedding, head]) == 128


def test_the_same_artefact_can_be_built_again() -> None:
    made = Manifest("m", "keep", "d", weights=WeightsRecord("key", "layout", "rtn", ()))
    found = run.recipe(Ours("x", Path("x"), made, 1), {"targets": ["cpu"], "activations": "f32", "max_batch": 2})
    assert found == {
        "model": "m", "quantization": "keep", "rounding": "rtn", "targets": ["cpu"], "activations": "f32",
        "max_batch": 2,
    }  # fmt: skip
    from argosy.build import BuildRequest

    assert BuildRequest(**found).max_batch == 2


# -- tables, plot and page


def test_a_report_has_tables_that_say_whose_bits_are_the_same() -> None:
    report = report_of()
    first, second, *others = tables.tables(report)
    assert first.headings == ("tokens per second", OURS, "llama.cpp Q4_0 (same bits)", "llama.cpp as shipped")
    assert second.headings == ("tokens per second", KEPT, "llama.cpp as shipped (same bits)")
    assert first.rows[0] == ("decode, context 8", "10.0 ± 0 %", "5.0 ± 0 % → 2.00x", "2.5 ± 0 % → 4.00x")
    assert {len(row) for table in (first, second, *others) for row in table.rows} == {
        len(table.headings) for table in (first, second, *others)
    }
    assert [table.title for table in others] == ["Roofline", "What ran", "Chat", "Build"]
    table = others[2]
    assert table.rows[0][3:] == ("100.0 MB", "20 B, 3 of 9 tokens filled", "3 B", "280.0 MB")
    assert "1.3 x weights + KV cache + 150.0 MB" in table.notes[0]


def test_figures_of_a_busy_machine_say_so() -> None:
    report = report_of()
    assert "busy" not in tables.setting(report)
    report["machine"]["load_before"] = [1.5, 0.0, 0.0]
    assert "The machine was busy" in tables.setting(report)


def test_without_peers_there_are_no_ratios() -> None:
    report = report_of(("q4f16_1",), ())
    first, *_ = tables.tables(report)
    assert first.headings == ("tokens per second", OURS) and not first.notes
    assert "x:" not in plot.svg(report)


def test_the_page_has_every_table_the_command_and_the_picture(page: ModuleType) -> None:
    text = page.page(report_of())
    assert text.startswith("# Performance\n") and "\nargosy bench\n" in text and "](p.svg)" in text
    assert "2020-02-02" in text and "TVM" in text and "llama.cpp 9.9" in text
    headings = re.findall(r"^## (.*)", text, re.MULTILINE)
    assert headings == [f"Speed of {OURS}", f"Speed of {KEPT}", "Roofline", "What ran", "Chat", "Build"]
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


def bars(picture: str) -> Iterator[tuple[str, float]]:
    root = ElementTree.fromstring(picture)
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        yield bar.attrib["class"], float(bar.attrib["width"])


def test_the_picture_has_a_bar_for_each_engine_and_case() -> None:
    report = report_of()
    report["model"] = "<m> & co"
    found = list(bars(plot.svg(report)))
    kinds = ["ours", "also", "peer", "peer"]
    assert [kind for kind, _ in found] == kinds * len(PLAN.cases())
    assert [width for _, width in found[:4]] == [plot.BARS, plot.BARS, plot.BARS / 2, plot.BARS / 4]
    assert "(2.00x)" in plot.svg(report) and "prefers-color-scheme: dark" in plot.svg(report)


def test_a_picture_is_written_whole(tmp_path: Path) -> None:
    plot.write_plot(report_of(), tmp_path / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


@pytest.mark.skipif(plot.shutil.which(plot.CONVERTER) is None, reason=f"{plot.CONVERTER} is not installed")
def test_a_png_is_a_png(tmp_path: Path) -> None:
    plot.check_plot(tmp_path / "a.png")
    plot.write_plot(report_of(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_png_without_a_converter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="`rsvg-convert`, which is not installed"):
        plot.check_plot(Path("a.png"))


# -- child processes


def test_a_process_is_timed_and_weighed() -> None:
    program = "import time; print('a', flush=True); x = b'x' * 60_000_000; time.sleep(0.2); print('b')"
    found = processes.run_measured(["-c", program])
    assert found.stdout == "a\nb\n" and found.seconds >= found.first_byte_seconds + 0.2
    assert found.peak_bytes > 60e6


def test_a_process_that_fails_is_one_sentence_with_its_last_words_and_its_hint() -> None:
    program = "import sys; sys.exit('Warning: loud\\nerror: no such model\\nhint: build it')"
    with pytest.raises(ArgosyError, match=r"ended with exit code 1: no such model") as caught:
        processes.run_measured(["-c", program])
    assert caught.value.hint == "build it"


def test_a_server_that_dies_is_one_sentence_and_its_chatter_is_passed_over() -> None:
    program = "print('loading...'); print('{}', flush=True); input(); raise SystemExit('error: out of memory')"
    with processes.Server(["-c", program]) as server:
        assert server.ready == {}
        with pytest.raises(ArgosyError, match="exit code 1: out of memory"):
            server.ask({"do": "prefill"})
    with pytest.raises(ArgosyError, match="exit code 3"), processes.Server(["-c", "raise SystemExit(3)"]):
        pass


def test_bandwidth_is_measured() -> None:
    found = processes.run_json(["-m", "argosy.bench.bandwidth", 2, 4_000_000, 3])["samples"]
    assert len(found) == 3 and min(found) > 1e8
