"""Packed weights cached next to the artefact: mapped if they fit, written again if not, and never an obstacle."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import warnings
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import save_checkpoint

from argosy import ChatModule
from argosy.build import BuildRequest, build
from argosy.dist.artefact import open_artefact
from argosy.dist.tensor_cache import TensorCacheWriter
from argosy.dist.tvm_bridge import StoredParams
from argosy.runtime_bindings.engine import loading as module
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.packing import pack, packing_recipe
from argosy.support.progress import SilentProgress

GREEDY = {"temperature": 0.0, "max_tokens": 8, "ignore_eos": True}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("packed") / "tiny")


OPTIONS = {"quantization": "q4f16_1", "context_window": 64, "prefill_chunk": 16, "max_batch": 4}


@pytest.fixture
def artefact(tiny_artefact: Callable[..., Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_artefact(**OPTIONS), tmp_path / "artefact"))


def weights_of(directory: Path, cache_packed: bool, warned: list[str] | None = None) -> list[np.ndarray]:
    opened = open_artefact(directory)
    notes: list[str] = [] if warned is None else warned
    tensors = load_weights(opened, load_library(opened), cache_packed, notes.append)
    assert warned is not None or not notes, notes
    return [tensor.numpy() for tensor in tensors]


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return len(left) == len(right) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(left, right, strict=True)
    )


def directories(artefact: Path) -> list[Path]:
    return sorted(artefact.glob("packed-*"))


def test_packed_weights_are_mapped_the_second_time(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = weights_of(artefact, cache_packed=False)
    assert not directories(artefact)
    assert same(weights_of(artefact, cache_packed=True), plain)
    (directory,) = directories(artefact)
    assert not [path.name for path in directory.iterdir() if path.name.startswith(".")]
    monkeypatch.setattr(module, "pack", lambda *_: pytest.fail("packed again"))
    assert same(weights_of(artefact, cache_packed=True), plain)


def test_packed_weights_talk_like_the_others(artefact: Path) -> None:
    answers = {ChatModule(artefact, cache_packed=keep).generate("Hi", generation_config=GREEDY) for keep in (0, 1, 1)}
    assert len(answers) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "no list", "no shard", "a list of something else"])
def test_packed_weights_that_are_damaged_are_made_again(artefact: Path, damage: str) -> None:
    plain = weights_of(artefact, cache_packed=True)
    (directory,) = directories(artefact)
    shard, listing = directory / "params_shard_0.bin", directory / "tensor-cache.json"
    before = shard.read_bytes()
    if damage == "flip":
        shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    elif damage == "cut":
        shard.write_bytes(before[:-1])
    elif damage == "no list":
        listing.unlink()
    elif damage == "no shard":
        shard.unlink()
    else:
        listing.write_bytes((artefact / "tensor-cache.json").read_bytes())
        shutil.copy(artefact / "params_shard_0.bin", shard)
    assert same(weights_of(artefact, cache_packed=True), plain)
    assert shard.read_bytes() == before


def test_packed_weights_of_another_state_are_removed(artefact: Path, checkpoint: Path) -> None:
    weights_of(artefact, cache_packed=True)
    (before,) = directories(artefact)
    (artefact / "packed-notes").mkdir()  # not ours
    build(BuildRequest(str(checkpoint), output=artefact, rounding="rtn", **OPTIONS), SilentProgress())  # type: ignore[arg-type]
    plain = weights_of(artefact, cache_packed=False)
    assert same(weights_of(artefact, cache_packed=True), plain)
    mine, notes = directories(artefact)
    assert mine != before and notes.name == "packed-notes"


@pytest.mark.parametrize("when", ["before", "midway"])
def test_packed_weights_and_a_full_disk(artefact: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    if when == "before":
        usage = namedtuple("usage", "total used free")(10, 10, 0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    else:
        write = TensorCacheWriter._write

        def full(writer: TensorCacheWriter, data: bytes) -> None:
            if writer._total > 1000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(writer, data)

        monkeypatch.setattr(TensorCacheWriter, "_write", full)
    warned: list[str] = []
    loaded = weights_of(artefact, True, warned)
    assert len(warned) == 1 and "\n" not in warned[0]
    assert warned[0].startswith("packed weights were not kept: no space left")
    assert not directories(artefact), "half a cache is left behind"
    monkeypatch.undo()
    assert same(loaded, weights_of(artefact, cache_packed=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ChatModule(artefact, cache_packed=True)
    assert len(directories(artefact)) == 1


def test_packed_weights_with_something_in_the_way(artefact: Path) -> None:
    weights_of(artefact, cache_packed=True)
    (directory,) = directories(artefact)
    shutil.rmtree(directory)
    directory.write_text("a file")
    with pytest.warns(UserWarning, match="packed weights were not kept: .* is in the way"):
        ChatModule(artefact, cache_packed=True)
    assert directory.read_text() == "a file"


def test_packed_weights_are_nothing_where_nothing_is_packed(tiny_artefact: Callable[..., Path]) -> None:
    directory = tiny_artefact(quantization="q0f32", context_window=128, prefill_chunk=16, max_batch=3)
    opened = open_artefact(directory)
    assert packing_recipe(load_library(opened).machine) is None
    weights_of(directory, cache_packed=True)
    assert not directories(directory)


def test_packing_lets_go_of_each_tensor_once_it_is_packed(artefact: Path) -> None:
    opened = open_artefact(artefact)
    library = load_library(opened)
    recipe = packing_recipe(library.machine)
    assert recipe is not None
    stored = StoredParams(opened.load_params(), library.metadata.params)
    live: list[str] = []

    class Watched(StoredParams):
        def __getitem__(self, index: int) -> object:
            assert f"done {index}" not in live, "used after it was let go"
            live.append(f"used {index}")
            return super().__getitem__(index)

    watched = Watched(opened.load_params(), library.metadata.params)
    pack(library.machine, watched, lambda index: live.append(f"done {index}"))
    done = [word for word in live if word.startswith("done")]
    kept = {before for before, _ in recipe.kept}
    assert sorted(done) == sorted(f"done {index}" for index in set(range(len(stored))) - kept)
    assert live.index(done[0]) < len(live) // 2, "all were let go at the end"


def test_released_tensors_leave_memory(tmp_path: Path) -> None:
    """Releasing 64 MB page by page lowers resident memory although the map stays."""
    program = f"""
import numpy as np
from pathlib import Path
from argosy.dist.tensor_cache import TensorCacheWriter, read_tensor_cache
from argosy.runtime_bindings.engine.memory import memory_use
with TensorCacheWriter(Path({str(tmp_path)!r})) as writer:
    for i in range(16):
        writer.add(str(i), np.full(1 << 20, i, np.int32))
    writer.finish()
tensors = read_tensor_cache(Path({str(tmp_path)!r})).load()
before = memory_use().resident
for i in range(16):
    tensors.release(str(i))
print(before - memory_use().resident)
assert all((tensors[str(i)] == i).all() for i in range(16))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 60 << 20
