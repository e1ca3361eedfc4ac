"""What `argosy web` checks before it listens: it refuses an artefact that is damaged or not for a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from web_artefact import ARM, BUILD, FOR_BROWSERS, NAME, WASM, WEBGPU, save_artefact

from argosy.support.errors import ArtefactError
from argosy.support.progress import SilentProgress
from argosy.web.files import artefact_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return save_artefact(tmp_path / NAME, WEBGPU, ARM)


def change_manifest(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = directory / "argosy-manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("name", [WASM, "params_shard_0.bin", "tensor-cache.json", "tokenizer.json"])
def test_a_damaged_artefact_is_refused(directory: Path, name: str) -> None:
    data = (directory / name).read_bytes()
    middle = len(data) // 2
    (directory / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    for sentence in (rf"{name}` was altered", rf"{name}` has {len(data) - 1} bytes", rf"{name}` is missing"):
        with pytest.raises(ArtefactError, match=sentence) as refusal:
            artefact_files(directory, SilentProgress(), *FOR_BROWSERS)
        assert "argosy build --model tiny --target webgpu,arm64" in (refusal.value.hint or "")
        if sentence.endswith("altered"):
            (directory / name).write_bytes(data[:-1])
        else:
            (directory / name).unlink(missing_ok=True)


def test_a_library_of_another_processor_may_be_damaged(directory: Path) -> None:
    (directory / f"{NAME}-arm64.so").write_bytes(b"")
    assert f"/artefact/{WASM}" in artefact_files(directory, SilentProgress(), *FOR_BROWSERS)


def test_an_artefact_without_a_library_for_a_browser(tmp_path: Path) -> None:
    for targets, held in (((ARM,), "it holds arm64"), ((), "it holds no library")):
        directory = save_artefact(tmp_path / f"tiny-{len(targets)}", *targets)
        with pytest.raises(ArtefactError, match=f"was not built for a browser: {held}") as refusal:
            artefact_files(directory, SilentProgress(), *FOR_BROWSERS)
        assert refusal.value.hint == f"{BUILD} --output {directory}"


def test_a_scheme_that_no_browser_computes_is_not_asked_for(tmp_path: Path) -> None:
    directory = save_artefact(tmp_path / "tiny", ARM)
    change_manifest(directory, lambda manifest: manifest.update(quantization="keep"))
    with pytest.raises(ArtefactError, match="was not built for a browser") as refusal:
        artefact_files(directory, SilentProgress(), *FOR_BROWSERS)
    assert refusal.value.hint == "argosy build --model tiny --target webgpu --quantization q4f16_1"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"abi": 9}, "has ABI 9, and Argosy"), ({"weights_layout": "0" * 64}, "was compiled for other weights")],
)
def test_a_library_that_does_not_fit(change: dict[str, object], sentence: str, directory: Path) -> None:
    change_manifest(directory, lambda manifest: manifest["libraries"]["webgpu"].update(change))
    with pytest.raises(ArtefactError, match=sentence):
        artefact_files(directory, SilentProgress(), *FOR_BROWSERS)


def test_a_link_out_of_the_directory_is_refused(directory: Path) -> None:
    outside = directory.with_name("outside.json")
    (directory / "tokenizer.json").rename(outside)
    (directory / "tokenizer.json").symlink_to(outside)
    with pytest.raises(ArtefactError, match=r"tokenizer\.json` leads out of its directory") as refusal:
        artefact_files(directory, SilentProgress(), *FOR_BROWSERS)
    assert refusal.value.hint


def test_a_link_within_the_directory_and_a_linked_directory_are_fine(directory: Path) -> None:
    (directory / "tokenizer.json").rename(directory / "real.json")
    (directory / "tokenizer.json").symlink_to("real.json")
    linked = directory.with_name("linked")
    linked.symlink_to(directory)
    assert "/artefact/tokenizer.json" in artefact_files(linked, SilentProgress(), *FOR_BROWSERS)
