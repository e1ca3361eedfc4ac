"""`argosy bench` on the demo model, through the command line, and beside llama.cpp on a copy of the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from click.testing import CliRunner

from argosy.bench.processes import Server, run_json
from argosy.bench.workload import Setup
from argosy.cli.app import cli
from argosy.dist.catalogue import resolve_model

DECODE = {"do": "decode", "context": 5, "batch": 2, "steps": 2}


def test_a_short_benchmark_of_an_artefact(demo_artefact: Callable[[str], Path], tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    words = ["--quick", "--contexts", "4", "--prefill", "20", "--batch", "2", "--repeats", "1", "--threads", "1"]
    arguments = ["bench", str(demo_artefact("q4f16_1")), *words, "--json", "-", "--plot", str(picture)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    (engine,) = report["engines"]
    assert list(engine["speed"]) == ["decode_4", "decode_8_batch_2", "prefill_20"]
    assert all(sample["median"] > 0 for sample in engine["speed"].values())
    assert engine["weights_bytes"] == engine["step_weights_bytes"] > 70e6  # the embedding is the output matrix too
    assert engine["peak_bytes"] > engine["weights_bytes"] and engine["kv_bytes_per_token"] > 0
    assert report["threads"] == 1 and report["ratios"] == {engine["name"]: {}}
    assert 0 < report["roofline"]["engines"][engine["name"]]["decode"]["decode_4"]["share"] < 3
    chat = report["chat"][engine["name"]]
    assert "Paris" in chat["answer"]
    assert chat["weights_bytes"] == engine["weights_bytes"] and 0 < chat["kv_cache_tokens"]["held"] < 100
    rest = chat["bound_bytes"] - chat["kv_cache_bytes"] - 1.3 * chat["weights_bytes"]
    assert abs(rest - 150e6) < 1
    assert chat["kv_cache_bytes"] >= chat["kv_cache_tokens"]["room"] * engine["kv_bytes_per_token"]
    assert engine["name"] in picture.read_text()


def test_more_than_an_artefact_can_hold_is_refused(demo_artefact: Callable[[str], Path]) -> None:
    result = CliRunner().invoke(cli, ["bench", str(demo_artefact("q4f16_1")), "--contexts", "8190"])
    assert result.exit_code == 2 and "holds `8192` tokens of context, but the benchmark needs `8254`" in result.stderr


def test_a_batch_beyond_the_librarys_is_refused(demo_artefact: Callable[[str], Path]) -> None:
    result = CliRunner().invoke(cli, ["bench", str(demo_artefact("q4f16_1")), "--quick", "--batch", "9"])
    assert result.exit_code == 1 and "runs `8` sequences together, but the benchmark needs `9`" in result.stderr
    assert "hint: give a smaller `--batch`" in result.stderr


def test_an_engine_decodes_the_same_after_its_context_was_cut_back(demo_artefact: Callable[[str], Path]) -> None:
    from argosy.bench.worker_argosy import ArgosyEngine

    engine = ArgosyEngine(Setup(str(demo_artefact("q4f16_1")), 1, 64, 2, 128, 49152))
    for _ in range(2):
        assert engine.decode(5, 2, 2) > 0
        assert [engine.runner.store.length(sequence) for sequence in range(2)] == [5, 5]
    assert engine.prefill(7) > 0 and engine.runner.store.length(0) == 7


@pytest.fixture(scope="module")
def small_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the demo model's file with all matrices as Q4_0."""
    source, new = resolve_model("smollm2-135m").path, tmp_path_factory.mktemp("gguf") / "q4_0.gguf"
    weighed = run_json(["-m", "argosy.bench.gguf_file", "requantize", source, "Q4_0", new])
    assert weighed == run_json(["-m", "argosy.bench.gguf_file", "weigh", new])
    return new


def test_the_copy_has_the_same_names_and_metadata_and_q4_0_everywhere(small_copy: Path) -> None:
    old, new = gguf.GGUFReader(resolve_model("smollm2-135m").path), gguf.GGUFReader(small_copy)
    assert [(t.name, list(t.shape)) for t in old.tensors] == [(t.name, list(t.shape)) for t in new.tensors]
    assert {t.tensor_type.name for t in new.tensors if len(t.shape) == 2} == {"Q4_0"}
    changed = {name for name, field in old.fields.items() if field.contents() != new.fields[name].contents()}
    assert changed <= {"general.file_type", "GGUF.kv_count"} and set(new.fields) == set(old.fields)
    query = "blk.3.attn_q.weight"
    before, after = (
        gguf.quants.dequantize(t.data, t.tensor_type) for r in (old, new) for t in r.tensors if t.name == query
    )
    assert np.square(before - after).sum() < 0.02 * np.square(before).sum()  # rows in the order of the file


def test_llama_cpp_answers_on_the_copy(small_copy: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    setup = Setup(str(small_copy), 1, 64, 2, 128, 49152)
    with Server(["-m", "argosy.bench.worker_llama", setup.to_argument()]) as server:
        assert abs(server.ready["weights_bytes"] / 75_785_472 - 1) < 0.01
        for _ in range(2):
            assert server.ask(DECODE)["seconds"] > 0
        assert server.ask({"do": "prefill", "tokens": 40})["seconds"] > 0


def test_openvino_answers_on_the_copy(small_copy: Path) -> None:
    pytest.importorskip("openvino_genai", reason="openvino-genai is not installed")
    setup = Setup(str(small_copy), 1, 64, 2, 128, 49152)
    with Server(["-m", "argosy.bench.worker_openvino", setup.to_argument()]) as server:
        assert server.ask(DECODE)["seconds"] > 0
        assert server.ask({"do": "prefill", "tokens": 40})["seconds"] > 0
