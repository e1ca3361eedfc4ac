"""What `argosy rm` removes: the files of artefacts, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from argosy.cli.app import cli
from argosy.dist.manifest import FileRecord, Manifest, WeightsRecord, write_manifest
from argosy.dist.removal import plan_removal, remove
from argosy.support.errors import ArtefactError
from argosy.support.files import directory_lock


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARGOSY_DIST", str(tmp_path / "built"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "built"


def artefact(path: Path, model: str = "/x/tiny", options: dict[str, str] | None = None) -> Path:
    path.mkdir(parents=True)
    (path / "params_shard_0.bin").write_bytes(b"x" * 1000)
    weights = WeightsRecord("key", "0" * 64, "full", ("params_shard_0.bin",))
    files = {"params_shard_0.bin": FileRecord("0" * 64, 1000)}
    write_manifest(path, Manifest(model, "q4f16_1", "0" * 64, weights=weights, files=files, options=options))
    return path


def rm(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["rm", *args], input=stdin)


def test_an_artefact_is_removed_and_its_size_is_said(store: Path) -> None:
    directory = artefact(store / "tiny-q4f16_1")
    (directory / "packed-0123456789abcdef").mkdir()
    (directory / "packed-0123456789abcdef" / "params_shard_0.bin").write_bytes(b"x" * 500)
    result = rm("tiny", "--yes")
    assert result.exit_code == 0 and not directory.exists()
    assert "freed" in result.stdout and result.stderr == ""


def test_several_in_json(store: Path) -> None:
    one, two = artefact(store / "tiny-q4f16_1"), artefact(store / "other-q4f16_1", "/x/other")
    report = json.loads(rm(str(one), "other", "tiny", "-y", "--json").stdout)
    assert [Path(entry["directory"]).name for entry in report["removed"]] == ["tiny-q4f16_1", "other-q4f16_1"]
    assert isinstance(report["bytes"], int) and report["bytes"] > 2000 and not one.exists() and not two.exists()


def test_it_asks_at_a_terminal_and_refuses_elsewhere(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = artefact(store / "tiny-q4f16_1")
    result = rm("tiny")
    assert result.exit_code == 2 and "--yes" in result.stderr and directory.exists()
    monkeypatch.setattr("argosy.cli.console.is_terminal", lambda stream: True)
    assert "nothing was removed" in rm("tiny", stdin="n\n").stderr and directory.exists()
    assert rm("tiny", stdin="y\n").exit_code == 0 and not directory.exists()


def test_files_of_the_user_stay(store: Path) -> None:
    directory = artefact(store / "tiny-q4f16_1")
    (directory / "notes.txt").write_text("mine")
    (directory / "folder").mkdir()
    result = rm("tiny", "-y")
    assert sorted(path.name for path in directory.iterdir()) == ["folder", "notes.txt"]
    assert "folder, notes.txt" in result.stderr


def test_a_checkpoint_is_never_removed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    (tmp_path / "file.gguf").write_bytes(b"GGUF")
    (tmp_path / "plain").mkdir()
    for name in ("tiny", "./tiny", "file.gguf", "smollm2-135m", "plain", ".", "..", "/", "nothing", "./nothing"):
        result = rm(name, "-y")
        assert result.exit_code == 1 and result.stderr.startswith("error: "), (name, result.output)
    assert (tmp_path / "tiny" / "config.json").exists() and (tmp_path / "file.gguf").exists()


def test_outside_the_store_only_a_whole_artefact_is_removed(store: Path, tmp_path: Path) -> None:
    half = tmp_path / "elsewhere" / "half"
    half.mkdir(parents=True)
    (half / "params_shard_0.bin").touch()
    with pytest.raises(ArtefactError, match="is not an artefact"):
        plan_removal(str(half))
    whole = artefact(tmp_path / "elsewhere" / "whole")
    remove(plan_removal(str(whole)))
    assert not whole.exists()
    inside = store / "half"
    inside.mkdir(parents=True)
    (inside / "params_shard_0.bin").touch()
    remove(plan_removal("half"))
    assert not inside.exists()


def test_of_a_link_only_the_link_is_removed(store: Path, tmp_path: Path) -> None:
    there = artefact(tmp_path / "elsewhere" / "tiny-q4f16_1")
    store.mkdir()
    (store / "tiny-q4f16_1").symlink_to(there)
    remove(plan_removal("tiny-q4f16_1"))
    assert there.is_dir() and not (store / "tiny-q4f16_1").is_symlink()


def test_a_build_under_way_is_not_disturbed(store: Path) -> None:
    directory = artefact(store / "tiny-q4f16_1")
    with directory_lock(directory):
        assert rm("tiny", "-y").exit_code == 1
    assert directory.exists()


def test_sizes_are_added_up(store: Path) -> None:
    artefact(store / "tiny-q4f16_1")
    artefact(store / "other-q4f16_1", "/x/other")
    for words in (["ls"], ["list", "artefacts"], ["list", "artifact"]):
        lines = CliRunner().invoke(cli, words).stdout.splitlines()
        assert lines[-1].startswith("total") and "kB" in lines[-1]
    rows = json.loads(CliRunner().invoke(cli, ["ls", "--json"]).stdout)
    assert [row["name"] for row in rows] == ["other-q4f16_1", "tiny-q4f16_1"]
    assert all(isinstance(row["bytes"], int) and row["model"].startswith("/x/") for row in rows)


def test_builds_of_one_model_are_told_apart(store: Path) -> None:
    artefact(store / "tiny-q4f16_1", options={})
    artefact(store / "tiny-q4f16_1-ctx64", options={"context-window": "64"})
    plain, chosen, _ = CliRunner().invoke(cli, ["ls"]).stdout.splitlines()[1:]
    assert plain.endswith("/x/tiny as q4f16_1, for nothing yet")
    assert chosen.endswith("/x/tiny as q4f16_1, context-window 64, for nothing yet")


def test_without_artefacts_the_first_command_is_said(store: Path) -> None:
    result = CliRunner().invoke(cli, ["ls"])
    assert result.stdout == "none yet\n" and "argosy run smollm2-135m" in result.stderr
