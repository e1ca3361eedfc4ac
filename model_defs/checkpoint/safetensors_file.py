"""Read tensors from a safetensors file, whose header is checked before anything is used.

Layout: 8 bytes little-endian header length, the header (a JSON object), the data.
https://github.com/huggingface/safetensors
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from argosy.model_defs.checkpoint.base import PIECE, sample_ranges
from argosy.model_defs.checkpoint.storage import open_file, parse_object
from argosy.support.bounded_file import AGAIN, BoundedFile, Cursor
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

HEADER_LIMIT = 100_000_000  # what the safetensors library allows
DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype("bool"),
    "U8": np.dtype("uint8"),
    "I8": np.dtype("int8"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
UNSUPPORTED = ("F8_", "F6_", "F4", "C64")


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's type, shape and place in its file, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int


class SafetensorsFile:
    """A safetensors file whose header has been checked."""

    stored = "safetensors"

    def __init__(self, path: Path) -> None:
        self.file = open_file(path)
        self.entries = _entries(self.file)

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors."""
        return tuple(self.entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `name`."""
        return self.entries[name].shape

    def stored_type(self, name: str) -> str:
        """Return the dtype of `name` as the file spells it."""
        return self.entries[name].dtype

    def read(self, name: str) -> np.ndarray:
        """Read the values of `name`; bfloat16 and float64 become float32."""
        entry = self.entries[name]
        raw = self.file.array(entry.start, entry.size).view(DTYPES[entry.dtype]).reshape(entry.shape)
        if entry.dtype == "BF16":
            return bfloat16_to_float32(raw)
        if entry.dtype == "F64":
            with np.errstate(over="ignore"):  # values too large for float32 become infinite
                return raw.astype(np.float32)
        return raw

    def sample(self, name: str, size: int) -> bytes:
        """Read raw bytes from the beginning, the middle and the end of `name`."""
        entry = self.entries[name]
        return b"".join(self.file.read(entry.start + at, n) for at, n in sample_ranges(entry.size, size))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the raw bytes of `name`, `PIECE` at a time."""
        entry = self.entries[name]
        for at in range(0, entry.size, PIECE):
            yield self.file.read(entry.start + at, min(PIECE, entry.size - at))


def bfloat16_to_float32(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16, given as uint16, to float32. This is exact: bfloat16 is the upper half of float32."""
    wide = bits.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def _entries(file: BoundedFile) -> dict[str, StoredTensor]:
    """Read and check the header of `file`."""
    if file.size < 8:
        raise file.wrong(f"has {file.size} bytes, too few for a safetensors file")
    cursor = Cursor(file, 8 + HEADER_LIMIT)
    length = cursor.integer(8)
    if not 2 <= length <= HEADER_LIMIT or 8 + length > file.size:
        raise file.wrong(f"claims a header of `{length}` bytes, but has only {file.size}")
    header = parse_object(cursor.take(length), f"the header of `{file.name}`")
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not _are_texts(metadata):
        raise file.wrong(f"has the `__metadata__` `{one_line(metadata)}`, which is not a table of texts")
    where = f"in `{file.name}`"
    entries = {name: _entry(name, value, 8 + length, where) for name, value in header.items()}
    _check_layout(entries, 8 + length, file)
    return entries


def _are_texts(value: object) -> bool:
    """Return whether `value` is an object whose values are texts."""
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _entry(name: str, value: object, base: int, where: str) -> StoredTensor:
    """Check one entry of the header, whose tensor data begin at `base` in the file."""
    label = f"tensor `{one_line(name)}` {where}"
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{label} is not described by dtype, shape and data_offsets", AGAIN)
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        if isinstance(dtype, str) and dtype.startswith(UNSUPPORTED):
            raise UnsupportedModelError(
                f"{label} is stored as `{one_line(dtype)}`", "use a BF16, F16 or F32 checkpoint"
            )
        raise CheckpointError(f"{label} has the unknown dtype `{one_line(dtype)}`", f"one of: {', '.join(DTYPES)}")
    if not _naturals(shape) or len(shape) > 8:
        raise CheckpointError(f"{label} has the shape `{one_line(shape)}`, which is not a short list of sizes", AGAIN)
    if not _naturals(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{label} has the offsets `{one_line(offsets)}`, which are not a range", AGAIN)
    size = math.prod(shape) * DTYPES[dtype].itemsize
    span = offsets[1] - offsets[0]
    if span != size:
        needed = f"{one_line(size)} bytes for `{dtype}` `{one_line(shape)}`"
        raise CheckpointError(f"{label} needs {needed}, its offsets span {span}", AGAIN)
    return StoredTensor(dtype, tuple(shape), base + offsets[0], size)


def _naturals(value: object) -> bool:
    """Return whether `value` is a list of integers of 63 bits, none of them negative."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _check_layout(entries: dict[str, StoredTensor], base: int, file: BoundedFile) -> None:
    """Check that the tensors fill the data part without gaps or overlaps, as the format demands."""
    end = base
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].size)):
        if entry.start != end:
            fault = "overlaps the tensor before it" if entry.start < end else "leaves a gap before it"
            raise CheckpointError(f"tensor `{one_line(name)}` in `{file.name}` {fault}", AGAIN)
        end = entry.start + entry.size
        if end > file.size:
            raise file.truncated(entry.start, entry.size)
    if end != file.size:
        raise file.wrong(f"has {file.size - end} bytes that belong to no tensor")
