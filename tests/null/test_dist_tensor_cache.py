"""Tensor caches are read back as written, and refused if anything was altered or made up."""

from __future__ import annotations

import errno
import hashlib
import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argosy.dist import tensor_cache
from argosy.dist.tensor_cache import CACHE_NAME, DTYPES, TensorCacheWriter, read_tensor_cache
from argosy.support.errors import ArgosyError, ArtefactError
from argosy.support.layout import weights_layout

ARRAYS = {
    "model.norm.weight": np.arange(7, dtype=np.float16),
    "model.layers.0.q_weight": np.arange(300, dtype=np.uint32).reshape(10, 30),
    "scalar": np.array(5, np.int64),
    "turned": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "big": np.linspace(0, 1, 5000, dtype=np.float64),
}


def write(directory: Path, arrays: dict[str, np.ndarray] | None = None, shard_bytes: int = 2048) -> tuple[str, ...]:
    with TensorCacheWriter(directory, shard_bytes) as writer:
        for name, array in (arrays or ARRAYS).items():
            writer.add(name, array)
        return writer.finish()


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_round_trip(tmp_path: Path) -> None:
    files = write(tmp_path)
    assert names(tmp_path) == sorted(files)
    cache = read_tensor_cache(tmp_path)
    loaded = cache.load()
    assert list(loaded) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype and np.array_equal(loaded[name], array)
    assert cache.layout() == weights_layout((n, a.shape, str(a.dtype)) for n, a in ARRAYS.items())


def test_the_file_is_what_mlc_writes(tmp_path: Path) -> None:
    write(tmp_path)
    stored = json.loads((tmp_path / CACHE_NAME).read_text())
    assert set(stored) == {"metadata", "records"}
    assert [shard["dataPath"] for shard in stored["records"]] == [f"params_shard_{i}.bin" for i in range(2)]
    for shard in stored["records"]:
        data = (tmp_path / shard["dataPath"]).read_bytes()
        assert shard["format"] == "raw-shard" and shard["nbytes"] == len(data)
        assert shard["md5sum"] == hashlib.md5(data).hexdigest()
        assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        for record in shard["records"]:
            assert set(record) == {"name", "shape", "dtype", "format", "nbytes", "byteOffset"}
            raw = data[record["byteOffset"] : record["byteOffset"] + record["nbytes"]]
            assert record["format"] == "raw" and raw == np.ascontiguousarray(ARRAYS[record["name"]]).tobytes()


def test_tensors_are_aligned_and_a_big_one_has_its_own_shard(tmp_path: Path) -> None:
    write(tmp_path, shard_bytes=1500)
    cache = read_tensor_cache(tmp_path)
    assert [[r.name for r in shard.records] for shard in cache.shards] == [
        ["model.norm.weight", "model.layers.0.q_weight", "scalar", "turned"], ["big"],
    ]  # fmt: skip
    assert all(record.offset % 64 == 0 for record in cache.records.values())
    assert all(array.ctypes.data % 64 == 0 for array in cache.load().values())


def test_nothing_is_copied_and_writing_does_not_reach_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    cache = read_tensor_cache(tmp_path)
    loaded = cache.load()
    assert not any(array.flags.owndata for array in loaded.values())
    loaded["big"][:] = -1
    assert np.array_equal(cache.load()["big"], ARRAYS["big"])


def test_loaded_tensors_survive_a_new_conversion(tmp_path: Path) -> None:
    write(tmp_path)
    loaded = read_tensor_cache(tmp_path).load()
    write(tmp_path, {"other": np.zeros(9, np.float32)})
    assert np.array_equal(loaded["big"], ARRAYS["big"])
    assert names(tmp_path) == ["params_shard_0.bin", CACHE_NAME]
    assert list(read_tensor_cache(tmp_path).load()) == ["other"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_a_conversion_that_fails_leaves_the_old_cache(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    with pytest.raises(type(error)), TensorCacheWriter(tmp_path, 64) as writer:
        writer.add("a", np.zeros(100, np.float32))
        writer.add("b", np.zeros(100, np.float32))
        raise error
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


def test_a_full_disk_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [5000]

    class SmallDisk:
        """A raw file on a disk with `room` free bytes; it writes what fits, then fails, as write(2) does."""

        def __init__(self, path: Path, *_: object, **__: object) -> None:
            self.file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed below

        def write(self, data: memoryview) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            count = self.file.write(data[: room[0]])
            room[0] -= count
            return count

        def close(self) -> None:
            self.file.close()

    monkeypatch.setattr(tensor_cache, "open", SmallDisk, raising=False)
    with pytest.raises(ArgosyError, match=r"no space left.*41\.\d kB needed"):
        write(tmp_path)
    assert names(tmp_path) == []


Tamper = Callable[[dict[str, Any]], object]


def shard_zero(**changes: object) -> Tamper:
    return lambda stored: stored["records"][0].update(changes)


def record_zero(**changes: object) -> Tamper:
    return lambda stored: stored["records"][0]["records"][0].update(changes)


MALFORMED: dict[str, Tamper] = {
    "no records": lambda stored: stored.pop("records"),
    "records of another type": lambda stored: stored.update(records={}),
    "a shard that is a string": lambda stored: stored.update(records=["x"]),
    "a shard twice": lambda stored: stored["records"].append(stored["records"][0]),
    "a tensor twice": lambda stored: stored["records"][0]["records"].append(stored["records"][0]["records"][0]),
    "another shard format": shard_zero(format="zip"),
    "an empty shard": shard_zero(nbytes=0),
    "a negative shard": shard_zero(nbytes=-1),
    "a huge shard": shard_zero(nbytes=2**70),
    "a size that is a float": shard_zero(nbytes=1.0),
    "a size that is true": shard_zero(nbytes=True),
    "an absolute path": shard_zero(dataPath="/etc/passwd"),
    "a path upwards": shard_zero(dataPath="../params_shard_0.bin"),
    "a path downwards": shard_zero(dataPath="sub/params_shard_0.bin"),
    "a path with a zero": shard_zero(dataPath="params\0.bin"),
    "a hidden file": shard_zero(dataPath=".bashrc"),
    "no path": shard_zero(dataPath=None),
    "a digest that is none": shard_zero(sha256="abc"),
    "a digest of another file": shard_zero(sha256="0" * 64),
    "a missing file": shard_zero(dataPath="params_shard_9.bin"),
    "a negative offset": record_zero(byteOffset=-64),
    "an offset beyond the file": record_zero(byteOffset=1 << 40),
    "an offset that leaves too little": record_zero(byteOffset=2000),
    "a size beyond the file": record_zero(nbytes=1 << 40, shape=[1 << 39]),
    "a shape that does not fit the size": record_zero(shape=[8]),
    "a negative shape": record_zero(shape=[-1, -7]),
    "a shape of nine dimensions": record_zero(shape=[1] * 8 + [7]),
    "a shape of strings": record_zero(shape=["7"]),
    "a shape that is none": record_zero(shape=7),
    "an unknown type": record_zero(dtype="float8_e4m3"),
    "a type that is numpy's object": record_zero(dtype="object"),
    "a type that is a list": record_zero(dtype=["float16"]),
    "an unknown encoding": record_zero(format="zstd"),
    "bf16 of something else": record_zero(format="f32-to-bf16", dtype="uint32", nbytes=14),
    "a name with a line break": record_zero(name="a\nb"),
    "an empty name": record_zero(name=""),
    "no name": record_zero(name=None),
}


@pytest.mark.parametrize("tamper", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_cache_is_refused_in_one_sentence(tmp_path: Path, tamper: Tamper) -> None:
    write(tmp_path)
    path = tmp_path / CACHE_NAME
    stored = json.loads(path.read_text())
    tamper(stored)
    path.write_text(json.dumps(stored))
    with pytest.raises(ArtefactError) as caught:
        read_tensor_cache(tmp_path, "argosy build").load()
    assert "\n" not in caught.value.message and "`" in caught.value.message and caught.value.hint == "argosy build"


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{", b"\xff\xfe", b"[" * 200_000, b'{"records": 1' + b"0" * 5000 + b"}"]
)
def test_a_file_that_is_no_json_object(tmp_path: Path, data: bytes) -> None:
    (tmp_path / CACHE_NAME).write_bytes(data)
    with pytest.raises(ArtefactError, match="is malformed"):
        read_tensor_cache(tmp_path)


def test_an_endless_json_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    with open(tmp_path / CACHE_NAME, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtefactError, match="larger than 64 MiB"):
        read_tensor_cache(tmp_path)


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("offset", [0, 14, 64, -1])  # the second one is padding between two tensors
def test_one_flipped_bit_is_found(tmp_path: Path, offset: int) -> None:
    write(tmp_path)
    flip(tmp_path / "params_shard_0.bin", offset)
    with pytest.raises(ArtefactError, match=r"params_shard_0\.bin` was altered"):
        read_tensor_cache(tmp_path).load()
    assert len(read_tensor_cache(tmp_path).load(verify=False)) == len(ARRAYS)


def test_truncated_lengthened_swapped_and_missing_shards(tmp_path: Path) -> None:
    write(tmp_path, {"a": np.zeros(256, np.float32), "b": np.ones(256, np.float32)}, shard_bytes=1024)
    first, second = tmp_path / "params_shard_0.bin", tmp_path / "params_shard_1.bin"
    zeros, ones = first.read_bytes(), second.read_bytes()
    for data, sentence in ((zeros[:-1], "1023 bytes instead of 1024"), (zeros + b"x", "1025 bytes"), (b"", "0 bytes")):
        first.write_bytes(data)
        with pytest.raises(ArtefactError, match=sentence):
            read_tensor_cache(tmp_path).load()
    first.write_bytes(ones)
    second.write_bytes(zeros)
    with pytest.raises(ArtefactError, match="was altered"):
        read_tensor_cache(tmp_path).load()
    first.unlink()
    with pytest.raises(ArtefactError, match=r"params_shard_0\.bin` is missing"):
        read_tensor_cache(tmp_path).load()


def as_mlc(directory: Path, legacy: bool) -> dict[str, Any]:
    """Remove what MLC does not write."""
    path = directory / CACHE_NAME
    stored = json.loads(path.read_text())
    for shard in stored["records"]:
        del shard["sha256"]
    path.unlink()
    (directory / ("ndarray-cache.json" if legacy else CACHE_NAME)).write_text(json.dumps(stored))
    return stored


@pytest.mark.parametrize("legacy", [False, True])
def test_a_cache_of_mlc_is_read_and_checked_by_md5(tmp_path: Path, legacy: bool) -> None:
    write(tmp_path)
    as_mlc(tmp_path, legacy)
    assert np.array_equal(read_tensor_cache(tmp_path).load()["big"], ARRAYS["big"])
    flip(tmp_path / "params_shard_1.bin", 3)
    with pytest.raises(ArtefactError, match="was altered"):
        read_tensor_cache(tmp_path).load()


def test_mlc_halves_become_floats_and_odd_offsets_are_read(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.0e38, 0.0], np.float32)
    data = b"\0" + (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "params_shard_0.bin").write_bytes(data)
    record = {"name": "x", "shape": [2, 2], "dtype": "float32", "format": "f32-to-bf16", "nbytes": 8, "byteOffset": 1}
    shard = {"dataPath": "params_shard_0.bin", "format": "raw-shard", "nbytes": 9, "records": [record]}
    (tmp_path / "tensor-cache.json").write_text(json.dumps({"metadata": {}, "records": [shard]}))
    loaded = read_tensor_cache(tmp_path).load()["x"]
    assert loaded.shape == (2, 2) and np.allclose(loaded.ravel(), values, rtol=2**-7)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["dataPath", "format", "nbytes", "records", "md5sum", "sha256", "name", "shape", "dtype", "byteOffset"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_caches_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """With any value in any field, the tensors lie inside the file or an ArtefactError is raised."""
    path, original = tmp_path / CACHE_NAME, tmp_path / "original"
    if not original.exists():
        write(tmp_path)
        path.rename(original)
    stored = json.loads(original.read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        shard = data.draw(st.sampled_from(stored["records"]))
        inner = shard.get("records")
        place = data.draw(st.sampled_from([shard, *inner] if isinstance(inner, list) else [shard]))
        if isinstance(place, dict):
            numbers = st.integers(-1, 50_000) | st.lists(st.integers(-1, 300), max_size=3)
            value = data.draw(JSON | numbers | st.sampled_from([*DTYPES, "raw", "f32-to-bf16", "params_shard_1.bin"]))
            place[data.draw(st.sampled_from(FIELDS))] = value
    path.write_text(json.dumps(stored))
    try:
        cache = read_tensor_cache(tmp_path)
        loaded = cache.load(verify=False)
    except ArtefactError as error:
        assert "\n" not in error.message and len(error.message) < 600
        return
    for name, record in cache.records.items():
        assert loaded[name].shape == record.shape
        loaded[name].sum()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / CACHE_NAME).write_bytes(text)
    with pytest.raises(ArtefactError):
        read_tensor_cache(tmp_path)


def test_tensor_cache_gives_pages_back_and_reads_them_again(tmp_path: Path) -> None:
    """Pages that were released lose what was written to them; pages shared with other tensors are kept."""
    arrays = {
        name: np.full(size, index, np.int32) for index, (name, size) in enumerate((("a", 10), ("b", 5000), ("c", 3)))
    }
    with TensorCacheWriter(tmp_path) as writer:
        for name, array in arrays.items():
            writer.add(name, array)
        writer.finish()
    loaded = read_tensor_cache(tmp_path).load()
    for name in arrays:
        loaded[name][:] = 7
    for name in arrays:
        loaded.release(name)
    assert (loaded["a"] == 7).all() and (loaded["c"] == 7).all()
    again = loaded["b"] == arrays["b"]
    assert 5000 - 2 * mmap.PAGESIZE // 4 <= again.sum() < 5000 and (loaded["b"][~again] == 7).all()
