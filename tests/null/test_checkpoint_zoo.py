"""Every malformed checkpoint is refused quickly, in little memory, with one sentence that names its own fault."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from zoo.checkpoints import Case, cases, entries
from zoo.file_bytes import tiny_directory, tiny_gguf

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.support.errors import ArgosyError

SECONDS = 10
MEGABYTES = 64
NAMES = [name for name, _, _ in entries()]


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {case.name: case for case in cases(tmp_path_factory.mktemp("zoo"))}


def _use(path: Path) -> None:
    """Use a checkpoint as a build does."""
    checkpoint = open_checkpoint(path)
    for name in checkpoint.names():
        checkpoint.read(name)
        checkpoint.read_blocks(name)
    checkpoint.tokenizer_files()
    checkpoint.digest()


@pytest.mark.parametrize("name", NAMES)
def test_refused(name: str, animals: dict[str, Case]) -> None:
    case = animals[name]
    tracemalloc.start()
    begin = time.monotonic()
    try:
        with pytest.raises(ArgosyError) as caught:
            _use(case.path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    error = caught.value
    assert case.reason.strip("`") in error.message
    assert error.message[0] == "`" or error.message[0].islower()
    assert error.message.isprintable() and not error.message.endswith(".")
    assert error.hint and error.hint.isprintable()
    assert len(error.message) < 600
    assert "Traceback" not in str(error)
    assert time.monotonic() - begin < SECONDS
    assert peak < MEGABYTES << 20


def test_zoo_is_large_and_has_no_twins() -> None:
    assert len(NAMES) >= 70
    assert len(set(NAMES)) == len(NAMES)


def test_what_the_zoo_mutates_is_sound(tmp_path: Path) -> None:
    """Otherwise a case could be refused for a fault that all cases share."""
    for name, data in tiny_directory().files.items():
        (tmp_path / name).write_bytes(data)
    _use(tmp_path)
    (tmp_path / "x.gguf").write_bytes(tiny_gguf().bytes())
    _use(tmp_path / "x.gguf")
