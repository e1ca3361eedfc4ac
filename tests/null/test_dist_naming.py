"""Names of artefacts and libraries, their directory, and the commands that build them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from argosy.dist import naming
from argosy.dist.naming import artefact_name, build_command, library_name, output_root
from argosy.support.errors import UsageError


@pytest.mark.parametrize(
    ("model", "name"),
    [("smollm2-135m", "smollm2-135m"), ("org/Name-1B", "Name-1B"), ("a/b/My Model.gguf", "My-Model"), ("x/..y/", "y")],
)
def test_directories_have_safe_names(model: str, name: str) -> None:
    assert artefact_name(model, "q4f16_1") == f"{name}-q4f16_1"


def test_a_model_without_latin_letters_needs_a_directory_that_is_named() -> None:
    for model in ("/", "..", "", "日本"):
        with pytest.raises(UsageError, match="no directory can be named after"):
            artefact_name(model, "q4f16_1")
        assert library_name(model, "q4f16_1", "webgpu", ".wasm") == "model-q4f16_1-webgpu.wasm"
    command = "argosy build --model 日本 --target cpu --quantization q4f16_1"
    assert shlex.split(build_command("日本", "cpu", "q4f16_1", Path("mine"))) == [*command.split(), "--output", "mine"]


def test_the_command_that_builds_names_the_directory_where_it_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGOSY_DIST", "elsewhere")
    monkeypatch.chdir(tmp_path)
    usual = "argosy build --model 'my models/tiny' --target cpu --quantization q4f16_1"
    for same in (None, Path("elsewhere/tiny-q4f16_1"), tmp_path / "elsewhere" / "tiny-q4f16_1"):
        assert build_command("my models/tiny", "cpu", "q4f16_1", same) == usual
    for other, named in ((Path("tiny-q4f16_1"), "tiny-q4f16_1"), (Path("a b"), "'a b'")):
        assert build_command("my models/tiny", "cpu", "q4f16_1", other) == f"{usual} --output {named}"


def test_where_artefacts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ARGOSY_DIST", raising=False)
    monkeypatch.setenv("ARGOSY_HOME", str(tmp_path / "home"))
    assert output_root() == tmp_path / "home" / "models"
    monkeypatch.setenv("ARGOSY_DIST", "elsewhere")
    assert output_root() == Path("elsewhere")
    monkeypatch.delenv("ARGOSY_DIST")
    checkout = Path(naming.__file__).parent.parent
    monkeypatch.chdir(checkout)
    assert output_root() == tmp_path / "home" / "models"
    monkeypatch.delenv("ARGOSY_HOME")
    assert output_root() == Path("dist/out")
    monkeypatch.chdir(checkout / "docs")
    assert output_root() == checkout / "dist" / "out"
