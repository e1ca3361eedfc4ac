"""Write and read weights as MLC's `tensor-cache.json` and `params_shard_N.bin`.

TVM (`vm.builtin.tensor_cache.load`), MLC and WebLLM read this format. We add two things that they ignore: a SHA-256
beside each shard's MD5, and tensors that start at multiples of 64 bytes, so that a memory map can be used in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from argosy.dist.records import Fields, read_json
from argosy.support.bounded_file import BoundedFile, path_line
from argosy.support.errors import ArtefactError
from argosy.support.files import disk_space_guard, publish, temp_path, write_json_atomic
from argosy.support.layout import weights_layout
from argosy.support.text import one_line

CACHE_NAME = "tensor-cache.json"
LEGACY_CACHE_NAME = "ndarray-cache.json"  # what MLC called it before 2025
SHARD_BYTES = 32 << 20
ALIGNMENT = 64  # TVM's kAllocAlignment: memory aligned to it is used without a copy

DTYPES = ("float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor's place in its shard. `format` is `raw`, or MLC's `f32-to-bf16`: the upper halves of float32."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str
    nbytes: int
    offset: int

    @property
    def stored_as_halves(self) -> bool:
        """Whether the bytes are upper halves; MLC marks tensors of other types the same way, to no effect."""
        return self.format == "f32-to-bf16" and self.dtype == "float32"


@dataclass(frozen=True, slots=True)
class Shard:
    """One `params_shard_N.bin`; MLC writes no SHA-256."""

    file: str
    nbytes: int
    records: tuple[TensorRecord, ...]
    sha256: str | None
    md5: str | None


class TensorCacheWriter:
    """Writes tensors to disk one by one, keeping none in memory.

    with TensorCacheWriter(directory) as writer:
        writer.add("model.norm.weight", array)
        writer.finish()

    Shards have temporary names until `finish`, so the directory's old content stays valid until then; a block that ends
    without it leaves nothing behind. A tensor larger than `shard_bytes` gets a shard of its own.
    """

    def __init__(self, directory: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._directory = directory
        self._shard_bytes = shard_bytes
        self._shards: list[dict[str, object]] = []
        self._written: list[tuple[Path, Path]] = []
        self._names: set[str] = set()
        self._file: BinaryIO | None = None
        self._offset = 0
        self._total = 0

    def __enter__(self) -> TensorCacheWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        for temporary, _ in self._written:
            temporary.unlink(missing_ok=True)

    def add(self, name: str, array: np.ndarray) -> None:
        """Append `array` (little-endian, of one of `DTYPES`) under `name`."""
        dtype = str(array.dtype)
        assert name not in self._names and dtype in DTYPES and array.size > 0, (name, dtype, array.shape)
        self._names.add(name)
        data = np.ascontiguousarray(array)
        with disk_space_guard(self._directory, self._total + data.nbytes):
            if self._file is not None and self._offset + data.nbytes > self._shard_bytes:
                self._end_shard()
            if self._file is None:
                self._begin_shard()
            padding = -self._offset % ALIGNMENT
            self._write(bytes(padding))
            record = {"name": name, "shape": list(array.shape), "dtype": dtype, "format": "raw",
                      "nbytes": data.nbytes, "byteOffset": self._offset}  # fmt: skip
            self._records.append(record)
            self._write(data.reshape(-1).view(np.uint8).data)

    def finish(self) -> tuple[str, ...]:
        """Give the shards their names, write `tensor-cache.json`, remove shards of an older conversion.

        Returns the names of all files.
        """
        with disk_space_guard(self._directory, self._total):
            self._end_shard()
            for temporary, final in self._written:
                publish(temporary, final)
        names = {str(shard["dataPath"]) for shard in self._shards}
        for old in self._directory.glob("params_shard_*.bin"):
            if old.name not in names:
                old.unlink()
        metadata = {"ParamSize": len(self._names), "ParamBytes": self._total}
        write_json_atomic(self._directory / CACHE_NAME, {"metadata": metadata, "records": self._shards})
        return (*sorted(names), CACHE_NAME)

    def _begin_shard(self) -> None:
        final = self._directory / f"params_shard_{len(self._shards)}.bin"
        temporary = temp_path(final)
        self._written.append((temporary, final))
        self._file = open(temporary, "wb", buffering=0)  # noqa: SIM115 - closed by _end_shard or __exit__
        self._offset = 0
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._records: list[dict[str, object]] = []

    def _write(self, data: bytes | memoryview) -> None:
        assert self._file is not None
        rest = memoryview(data)
        while rest:  # an unbuffered write may be short; the next one then fails with the reason
            rest = rest[self._file.write(rest) :]
        self._sha256.update(data)
        self._md5.update(data)
        self._offset += len(data)
        self._total += len(data)

    def _end_shard(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self._file = None
        self._shards.append({
            "dataPath": self._written[-1][1].name, "format": "raw-shard", "nbytes": self._offset,
            "records": self._records, "md5sum": self._md5.hexdigest(), "sha256": self._sha256.hexdigest(),
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorCache:
    """A checked `tensor-cache.json`: tensors lie inside their shards, file names are plain, names are unique."""

    directory: Path
    shards: tuple[Shard, ...]
    hint: str | None = None

    @property
    def records(self) -> dict[str, TensorRecord]:
        """All tensors by name, in the order of storage."""
        return {record.name: record for shard in self.shards for record in shard.records}

    @property
    def nbytes(self) -> int:
        """The size of all shards in bytes."""
        return sum(shard.nbytes for shard in self.shards)

    def layout(self) -> str:
        """Return the fingerprint of the weights, which must equal the library's."""
        return weights_layout((r.name, r.shape, r.dtype) for r in self.records.values())

    def load(self, verify: bool = True) -> MappedTensors:
        """Map all tensors: views of private memory maps, so nothing is copied and writing never reaches the file.

        `verify` first reads every byte to compare the digests. Raises ArtefactError for a shard that is missing, has
        another size, or was altered.
        """
        maps = [self._map(shard) for shard in self.shards]
        if verify:
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                list(pool.map(self._check, self.shards, maps))
        return MappedTensors((r, data) for shard, data in zip(self.shards, maps, strict=True) for r in shard.records)

    def _map(self, shard: Shard) -> mmap.mmap:
        with BoundedFile(self.directory / shard.file, ArtefactError, self.hint, missing="is missing") as file:
            return file.map(shard.nbytes)

    def _check(self, shard: Shard, data: mmap.mmap) -> None:
        """Compare the digest; hashlib releases the GIL, so threads run in parallel."""
        with contextlib.suppress(AttributeError, OSError):
            data.madvise(mmap.MADV_WILLNEED)
        if shard.sha256 is not None:
            sound = hashlib.sha256(data).hexdigest() == shard.sha256
        else:
            sound = shard.md5 is None or hashlib.md5(data, usedforsecurity=False).hexdigest() == shard.md5
        if not sound:
            path = self.directory / shard.file
            raise ArtefactError(f"`{path_line(path)}` was altered: its digest is not the recorded one", self.hint)


class MappedTensors(dict[str, np.ndarray]):
    """Tensors by name, as views of memory maps."""

    def __init__(self, places: Iterable[tuple[TensorRecord, mmap.mmap]]) -> None:
        super().__init__()
        self._places: dict[str, tuple[TensorRecord, mmap.mmap]] = {}
        for record, data in places:
            self[record.name] = _view(data, record)
            self._places[record.name] = record, data

    def release(self, name: str) -> None:
        """Return to the system the pages that hold nothing but this tensor.

        Reading it afterwards reads the file again; what was written to it is lost.
        """
        record, data = self._places[name]
        start = -(-record.offset // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (record.offset + record.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
        if length > 0:
            with contextlib.suppress(AttributeError, OSError):  # not every system has this call
                data.madvise(mmap.MADV_DONTNEED, start, length)


def _view(data: mmap.mmap, record: TensorRecord) -> np.ndarray:
    if record.stored_as_halves:
        upper = np.frombuffer(data, np.uint16, record.nbytes // 2, record.offset).astype(np.uint32)
        return (upper << 16).view(np.float32).reshape(record.shape)
    dtype = np.dtype(record.dtype)
    return np.frombuffer(data, dtype, record.nbytes // dtype.itemsize, record.offset).reshape(record.shape)


def cache_file(directory: Path) -> Path | None:
    """Return the tensor cache of `directory`, under its present or its former name, or None."""
    for name in (CACHE_NAME, LEGACY_CACHE_NAME):
        if os.path.isfile(directory / name):
            return directory / name
    return None


def read_tensor_cache(directory: Path, hint: str | None = None) -> TensorCache:
    """Read and check the tensor cache in `directory`.

    Raises ArtefactError with `hint`.
    """
    path = cache_file(directory)
    fields = read_json(path or directory / CACHE_NAME, hint)
    shards = tuple(_shard(shard) for shard in fields.children("records"))
    names: set[str] = set()
    files: set[str] = set()
    for shard in shards:
        if shard.file in files:
            raise fields.error("records", f"name the file `{shard.file}` twice")
        files.add(shard.file)
        for record in shard.records:
            if record.name in names:
                raise fields.error("records", f"name the tensor `{one_line(record.name)}` twice")
            names.add(record.name)
    return TensorCache(directory, shards, hint)


def _shard(fields: Fields) -> Shard:
    if fields.text("format") != "raw-shard":
        raise fields.error(f"{fields.where}.format", f"is `{one_line(fields.text('format'))}`, not `raw-shard`")
    nbytes = fields.integer("nbytes", minimum=1)
    records = tuple(_record(record, nbytes) for record in fields.children("records"))
    sha256 = fields.sha256("sha256") if "sha256" in fields.values else None
    return Shard(fields.file_name("dataPath"), nbytes, records, sha256, fields.optional_text("md5sum"))


def _record(fields: Fields, shard_bytes: int) -> TensorRecord:
    record = TensorRecord(
        fields.text("name"), fields.integers("shape"), fields.text("dtype"), fields.text("format"),
        fields.integer("nbytes", minimum=0), fields.integer("byteOffset", minimum=0),
    )  # fmt: skip
    if not 0 < len(record.name) <= 512 or not record.name.isprintable():
        raise fields.error(f"{fields.where}.name", f"is `{one_line(record.name)}`, not a tensor's name")
    if record.dtype not in DTYPES:
        raise fields.error(f"{fields.where}.dtype", f"is `{one_line(record.dtype)}`, not one of {', '.join(DTYPES)}")
    if record.format not in ("raw", "f32-to-bf16"):
        raise fields.error(f"{fields.where}.format", f"is `{one_line(record.format)}`, not `raw`")
    if len(record.shape) > 8 or any(dim < 0 for dim in record.shape):
        raise fields.error(f"{fields.where}.shape", f"is `{one_line(list(record.shape))}`, not a shape")
    itemsize = 2 if record.stored_as_halves else np.dtype(record.dtype).itemsize
    if math.prod(record.shape) * itemsize != record.nbytes:
        problem = f"is `{record.nbytes}`, which does not fit the shape {list(record.shape)}"
        raise fields.error(f"{fields.where}.nbytes", problem)
    if record.offset + record.nbytes > shard_bytes:
        problem = f"is `{record.offset}`: the tensor would end beyond its shard"
        raise fields.error(f"{fields.where}.byteOffset", problem)
    return record
