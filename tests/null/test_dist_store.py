"""Artefacts are found by name from any directory, in the user's store, in a checkout and beside the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from argosy.dist.manifest import FileRecord, LibraryRecord, LibraryTarget, Manifest, write_manifest
from argosy.dist.naming import artefact_roots, output_root
from argosy.dist.recognise import is_checkpoint
from argosy.dist.store import NotBuiltError, find_artefact
from argosy.support.errors import ArtefactError, UsageError
from argosy.support.user_files import data_directory

TRIPLES = {"cpu": "x86_64-unknown-linux-gnu", "webgpu": "wasm32-unknown-unknown-webgpu"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and an empty directory to be in."""
    for name in ("ARGOSY_DIST", "ARGOSY_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARGOSY_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"


def artefact(path: Path, model: str, scheme: str = "q4f16_1", targets: tuple[str, ...] = ("cpu",)) -> Path:
    """Make a directory with the manifest of an artefact."""
    path.mkdir(parents=True)
    records = {
        target: LibraryRecord("key", "x.so", 1, "0", "0", LibraryTarget(target, TRIPLES[target], "", ()), "0" * 64, "")
        for target in targets
    }
    files = {"x.so": FileRecord("0" * 64, 1)}
    write_manifest(path, Manifest(model, scheme, "0" * 64, libraries=records, files=files))
    return path


def checkpoint(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return path


def test_an_artefact_in_the_store_is_found_by_its_name_and_by_its_model(home: Path, tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "models" / "tiny")
    built = artefact(home / "models" / "tiny-q4f16_1", str(source))
    for name in ("tiny", "tiny-q4f16_1", str(built), str(source), "../models/tiny", "../models/tiny/"):
        assert find_artefact(name) == built, name


def test_a_checkpoint_beside_the_user_does_not_hide_what_was_built_from_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint(tmp_path / "models" / "tiny")
    built = artefact(home / "models" / "tiny-q4f16_1", str(source))
    monkeypatch.chdir(source.parent)
    for name in ("tiny", "./tiny", "tiny/"):
        assert find_artefact(name) == built
    other = checkpoint(tmp_path / "others" / "tiny")
    monkeypatch.chdir(other.parent)
    with pytest.raises(NotBuiltError, match=r"`\./tiny` is not built yet"):
        find_artefact("./tiny")  # another checkpoint of the same name


def test_a_file_and_an_id_of_the_hub_name_their_artefacts(home: Path, tmp_path: Path) -> None:
    (tmp_path / "Tiny.GGUF").write_bytes(b"GGUF")
    built = artefact(home / "models" / "Tiny-q4f16_1", str(tmp_path / "Tiny.GGUF"))
    hub = artefact(home / "models" / "Model-1B-q4f16_1", "org/Model-1B")
    for name in (str(tmp_path / "Tiny.GGUF"), "../Tiny.GGUF", "Tiny", "Tiny.gguf"):
        assert find_artefact(name) == built
    assert find_artefact("org/Model-1B") == find_artefact("Model-1B") == hub
    with pytest.raises(NotBuiltError) as error:
        find_artefact("org/Model-2B")
    assert error.value.model == "org/Model-2B"


def test_what_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "my models" / "tiny")
    with pytest.raises(NotBuiltError) as error:
        find_artefact(str(source))
    assert error.value.model == str(source)
    assert error.value.hint == f"argosy build --model '{source}' --target cpu --quantization q4f16_1"
    with pytest.raises(NotBuiltError, match="`smollm2-135m` is not built yet"):
        find_artefact("smollm2-135m")
    with pytest.raises(ArtefactError, match="no artefact `smollm2-153m`") as unknown:
        find_artefact("smollm2-153m")
    assert not isinstance(unknown.value, NotBuiltError) and "smollm2-135m" in (unknown.value.hint or "")
    assert find_artefact("./nothing") == Path("nothing")  # opening it says what is wrong


def test_of_several_the_one_that_runs_here_or_has_default_options_is_meant(home: Path) -> None:
    models = home / "models"
    here = artefact(models / "tiny-q4f16_1", "/x/tiny")
    browser = artefact(models / "tiny-q4f32_1", "/x/tiny", "q4f32_1", ("webgpu",))
    assert find_artefact("tiny") == here and find_artefact("tiny", "webgpu") == browser
    small = artefact(models / "tiny-q4f16_1-ctx128", "/x/tiny")
    assert find_artefact("tiny") == here and find_artefact("tiny-q4f16_1-ctx128") == small
    artefact(models / "tiny-q8f16_1", "/x/tiny", "q8f16_1")
    with pytest.raises(ArtefactError, match="`tiny` is built in several forms") as error:
        find_artefact("tiny")
    assert error.value.hint == "choose one: tiny-q4f16_1, tiny-q8f16_1"


def test_of_several_builds_of_the_demo_its_recommended_scheme_is_meant(home: Path) -> None:
    models = home / "models"
    kept = artefact(models / "smollm2-135m-keep", "smollm2-135m", "keep")
    rounded = artefact(models / "smollm2-135m-q4f16_1", "smollm2-135m", "q4f16_1", ("cpu", "webgpu"))
    artefact(models / "smollm2-135m-q8f16_1", "smollm2-135m", "q8f16_1")
    assert find_artefact("smollm2-135m") == kept and find_artefact("smollm2-135m", "webgpu") == rounded
    assert find_artefact("smollm2-135m-q4f16_1") == rounded


def test_a_path_from_another_directory_is_found_by_its_last_part(home: Path) -> None:
    artefact(home / "models" / "tiny-q4f16_1", "/x/tiny")
    with pytest.raises(ArtefactError, match="there is no artefact directory `dist/out/tiny-q4f16_1`") as error:
        find_artefact("dist/out/tiny-q4f16_1")
    assert error.value.hint == "did you mean `tiny-q4f16_1`?"


def test_artefacts_of_the_directory_come_before_the_store(home: Path) -> None:
    stored = artefact(home / "models" / "tiny-q4f16_1", "/x/tiny")
    assert find_artefact("tiny-q4f16_1") == stored
    old = artefact(Path("dist/out/other-q4f16_1"), "/x/other")
    older = artefact(Path("dist/more-q4f16_1"), "/x/more")
    assert find_artefact("other") == old and find_artefact("more") == older and find_artefact("tiny") == stored


def test_one_directory_alone_where_the_environment_names_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact(home / "models" / "tiny-q4f16_1", "/x/tiny")
    monkeypatch.setenv("ARGOSY_DIST", "elsewhere")
    assert artefact_roots() == [Path("elsewhere")] == [output_root()]
    with pytest.raises(ArtefactError, match="no artefact `tiny` in `elsewhere`"):
        find_artefact("tiny")


def test_a_broken_artefact_is_found_so_that_opening_it_can_complain(home: Path) -> None:
    broken = home / "models" / "tiny-q4f16_1"
    broken.mkdir(parents=True)
    (broken / "argosy-manifest.json").write_text("no JSON")
    assert find_artefact("tiny") == find_artefact("tiny-q4f16_1") == broken


@pytest.mark.parametrize("name", ["", ".", "..", "a" * 5000, "a\0b", "\n", "日本"])
def test_strange_names_are_refused_or_returned(name: str) -> None:
    try:
        assert find_artefact(name) == Path(name)
    except ArtefactError as error:
        assert "\n" not in error.message


def test_the_directory_of_data_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ARGOSY_HOME", "~/mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_directory() == tmp_path / "mine"
    monkeypatch.delenv("ARGOSY_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    assert data_directory() == tmp_path / ".local" / "share" / "argosy"
    monkeypatch.setenv("XDG_DATA_HOME", "relative/ones/do/not/count")
    assert data_directory() == tmp_path / ".local" / "share" / "argosy"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert data_directory() == tmp_path / "xdg" / "argosy"
    assert output_root() == tmp_path / "xdg" / "argosy" / "models"
    monkeypatch.setattr("sys.platform", "darwin")
    assert data_directory() == tmp_path / "Library" / "Application Support" / "argosy"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert data_directory() == tmp_path / "local" / "argosy"


def test_without_a_home_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ARGOSY_HOME")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(Path, "home", lambda: Path("~"))
    with pytest.raises(UsageError, match="home directory") as error:
        data_directory()
    assert "ARGOSY_HOME" in (error.value.hint or "")


def test_a_checkpoint_is_recognised(tmp_path: Path) -> None:
    assert is_checkpoint(checkpoint(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    assert not is_checkpoint(tmp_path / "b") and not is_checkpoint(tmp_path / "c")
    (tmp_path / "b" / "x.gguf").write_bytes(b"")
    assert is_checkpoint(tmp_path / "b") and is_checkpoint(tmp_path / "b" / "x.gguf")
