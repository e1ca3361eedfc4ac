"""Changed inputs are accepted and right, or refused in one line, within a second and 200 MB: no crash, no hang."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fuzz.all_targets import TARGETS
from fuzz.bombs import bombs
from fuzz.checkpoints import use_checkpoint
from fuzz.engine import Fuzzer, judge, write
from fuzz.target import Files, Target, expect

from argosy.support.errors import ArgosyError

CORPUS = sorted(path for path in (Path(__file__).parent / "corpus").glob("*/*") if path.is_file())
INPUTS = int(os.environ.get("FUZZ_INPUTS", "20000"))  # `.ci/run` asks for 200,000


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_inputs_that_once_were_faults_are_refused(path: Path, tmp_path: Path) -> None:
    target = TARGETS[path.parent.name]
    (tmp_path / "sound").mkdir()
    (tmp_path / "input").mkdir()
    write(target.render(target.seeds()[0]), tmp_path / "sound", {})
    judge(target, tmp_path / "sound")  # imports what it needs
    write(target.render(path.read_bytes()), tmp_path / "input", {})
    verdict, fault = judge(target, tmp_path / "input")
    assert fault is None and verdict != "accepted", verdict


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_changed_is_sound(name: str, tmp_path: Path) -> None:
    """Otherwise every input could be refused for a fault that all share."""
    target = TARGETS[name]
    for seed in target.seeds():
        (directory := tmp_path / str(len(list(tmp_path.iterdir())))).mkdir()
        write(target.render(seed), directory, {})
        verdict, fault = judge(target, directory)
        assert fault is None and (verdict == "accepted" or name == "name"), verdict


def test_changed_inputs(tmp_path: Path) -> None:
    saved = Path("dist/out/fuzz")
    fuzzer = Fuzzer(list(TARGETS.values()), saved, seed=20261128)
    fuzzer.run(INPUTS)
    assert not fuzzer.faults, "\n\n".join(fuzzer.faults[:5])
    assert sum(tally.inputs for tally in fuzzer.tallies.values()) >= INPUTS - len(TARGETS)
    for name, tally in fuzzer.tallies.items():
        assert tally.accepted or name == "name", f"{name}: all inputs were refused"


def _crash(path: Path) -> None:
    os.abort()


def _stop(path: Path) -> None:
    raise KeyError("a traceback")


def _talk(path: Path) -> None:
    raise ArgosyError("two\nlines")


def _misread(path: Path) -> None:
    expect(1 == 2, "one is not two")


def _fill(path: Path) -> None:
    bytearray(400 << 20)[::4096] = b"x" * (100 << 10)


def _spin(path: Path) -> None:
    sum(range(100_000_000))


def _render(genome: object) -> Files:
    return {"x": b"x"}


FAULTS = {
    _crash: "ended with status -6",
    _stop: "KeyError",
    _talk: "more than one printable line",
    _misread: "one is not two",
    _fill: "MiB of memory",
    _spin: "seconds of the processor",
}


@pytest.mark.parametrize("use", FAULTS, ids=lambda use: use.__name__)
def test_every_kind_of_fault_is_found_and_its_input_saved(use: object, tmp_path: Path) -> None:
    target = Target("x", 1, lambda: [b""], lambda genome, rng: genome, _render, use)  # type: ignore[arg-type]
    fuzzer = Fuzzer([target], tmp_path, jobs=1)
    fuzzer.run(1)
    (fault,) = fuzzer.faults
    assert FAULTS[use] in fault  # type: ignore[index]
    assert [path.read_bytes() for path in tmp_path.glob("*/x")] == [b"x"]


BOMBS = bombs()


def _use_bomb(path: Path) -> None:
    file = path / "x.gguf"
    use_checkpoint(file if file.exists() else path)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_the_limits(name: str, tmp_path: Path) -> None:
    files = BOMBS[name]()
    if "pytorch_model.bin" in files:
        pytest.importorskip("torch")
    target = Target("bomb", 1, lambda: [b""], lambda genome, rng: genome, lambda genome: files, _use_bomb)
    fuzzer = Fuzzer([target], tmp_path, jobs=1)
    fuzzer.run(1)
    assert not fuzzer.faults, fuzzer.faults[0][:2000]
    tally = fuzzer.tallies["bomb"]
    assert not tally.accepted, "it was accepted"
