"""Builds of one model that differ in their options lie apart, and none replaces another unasked."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest
from tiny_checkpoint import save_checkpoint

from argosy.build import BuildReport, BuildRequest, Stage, build, prepare
from argosy.dist.manifest import read_manifest, write_manifest
from argosy.dist.store import find_artefact
from argosy.support.errors import ArtefactError
from argosy.support.progress import SilentProgress

DATA: tuple[Stage, ...] = ("weights", "config")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARGOSY_DIST", str(tmp_path / "built"))
    return tmp_path / "built"


def run(checkpoint: Path, stages: tuple[Stage, ...] = DATA, **choices: object) -> BuildReport:
    return build(BuildRequest(str(checkpoint), **choices), SilentProgress(), stages)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        ({}, "tiny-q4f16_1"),
        ({"quantization": "q8f16_1"}, "tiny-q8f16_1"),
        ({"context_window": 64}, "tiny-q4f16_1-ctx64"),
        ({"rounding": "rtn", "max_batch": 2}, "tiny-q4f16_1-rtn-batch2"),
        ({"rounding": "full", "max_batch": 8, "activations": "int8", "kv": "f16"}, "tiny-q4f16_1"),
        ({"activations": "int16", "kv": "f32"}, "tiny-q4f16_1-int16-kvf32"),
        ({"quantization": "q8f16_1", "activations": "int16"}, "tiny-q8f16_1"),
        ({"prefill_chunk": 32}, "tiny-q4f16_1-chunk32"),
    ],
)
def test_options_that_are_not_the_defaults_are_part_of_the_name(
    checkpoint: Path, choices: dict[str, object], name: str
) -> None:
    recipe = prepare(BuildRequest(str(checkpoint), **choices))  # type: ignore[arg-type]
    assert recipe.directory.name == name
    assert recipe.directory.parent.name == "built"


def test_the_default_given_in_words_is_the_default(checkpoint: Path) -> None:
    usual = prepare(BuildRequest(str(checkpoint)))
    again = BuildRequest(str(checkpoint), context_window=usual.bounds.context_window)
    assert prepare(again).directory == usual.directory
    chosen = BuildRequest(str(checkpoint), context_window=64, prefill_chunk=64)  # no chunk is longer than the window
    assert prepare(chosen).directory.name == "tiny-q4f16_1-ctx64"


def test_another_build_does_not_replace_one_with_other_options(checkpoint: Path, store: Path) -> None:
    run(checkpoint)
    with pytest.raises(ArtefactError, match="was built with the default options") as error:
        run(checkpoint, ("config",), context_window=64)
    assert "`--context-window 64`" in error.value.message and "--output" in (error.value.hint or "")
    assert "--force" in (error.value.hint or "")
    assert read_manifest(store / "tiny-q4f16_1").options == {}
    report = run(checkpoint, ("config",), context_window=64, force=True)
    assert any("it was replaced" in note for note in report.notes)
    assert read_manifest(store / "tiny-q4f16_1").options == {"context-window": "64"}


def test_stages_of_their_own_share_a_directory(checkpoint: Path, store: Path) -> None:
    run(checkpoint, ("weights",), rounding="rtn")
    run(checkpoint, ("config",), context_window=64)
    assert read_manifest(store / "tiny-q4f16_1").options == {"rounding": "rtn", "context-window": "64"}
    with pytest.raises(ArtefactError, match="`--rounding rtn`"):
        run(checkpoint, ("weights",))


def test_another_checkpoint_of_the_same_name_is_refused(checkpoint: Path, tmp_path: Path, store: Path) -> None:
    run(checkpoint)
    other = save_checkpoint(tmp_path / "other" / "tiny", seed=1)
    with pytest.raises(ArtefactError, match="holds the model") as error:
        run(other)
    assert str(checkpoint) in error.value.message
    run(other, output=store / "tiny-q4f16_1")  # the directory was named
    assert read_manifest(store / "tiny-q4f16_1").model == str(other)


def test_the_command_that_builds_again_has_the_options(checkpoint: Path, store: Path) -> None:
    directory = store / "tiny-q4f16_1-rtn-ctx64"
    run(checkpoint, rounding="rtn", context_window=64, output=directory)
    words = shlex.split(read_manifest(directory).build_command(directory, "cpu"))
    assert words[-4:] == ["--rounding", "rtn", "--context-window", "64"] and words[:4] == [
        "argosy", "build", "--model", str(checkpoint),
    ]  # fmt: skip


def test_a_manifest_of_before_has_no_options_and_is_replaced(checkpoint: Path, store: Path) -> None:
    run(checkpoint)
    directory = store / "tiny-q4f16_1"
    write_manifest(directory, dataclasses.replace(read_manifest(directory), options=None))
    run(checkpoint, ("config",), context_window=64)


def test_the_word_that_was_built_is_the_word_to_chat_with(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    directory = build(BuildRequest("./tiny"), SilentProgress(), DATA).directory
    assert find_artefact("tiny") == find_artefact("./tiny") == directory
    monkeypatch.chdir(tmp_path)
    assert find_artefact("tiny") == directory
