"""One GGUF file goes in, its metadata and tensors come out; counts, lengths and offsets are checked before use.

Layout: magic, version, tensor count, metadata count, metadata, tensor descriptions, padding, data.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from argosy.model_defs.checkpoint.base import sample_ranges
from argosy.model_defs.checkpoint.safetensors_file import bfloat16_to_float32
from argosy.model_defs.checkpoint.storage import StoredFile, printable
from argosy.support.errors import CheckpointError, UnsupportedModelError

Value = int | float | bool | str | np.ndarray | list[str]

AGAIN = "download or copy the file again"
VERSIONS = (2, 3)
BUFFER = 1 << 18
STRING_LIMIT = 16 << 20  # bytes; the longest honest string is a chat template
TEXTS_LIMIT = 1 << 22  # strings in one array; the largest vocabularies have 262144 tokens and twice as many merges
HEADER_LIMIT = 1 << 28  # bytes of metadata and descriptions together
COUNT_LIMIT = 1 << 16  # tensors, and metadata values; the largest models have a few thousand tensors
ALIGNMENT_LIMIT = 1 << 20
CHUNK = 1 << 19  # values dequantized at a time
STRING, ARRAY = 8, 9
SCALARS = {  # GGUF value type -> struct code
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
FLOATS = {"F32": "<f4", "F16": "<f2"}
# Tensor types that are no weights: integers, activations inside ggml, doubles, and what `gguf` cannot dequantize.
UNREADABLE = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q1_0"})


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies in the file. `shape` has the longest stride first, as numpy and Hugging Face have it."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    size: int

    @property
    def columns(self) -> int:
        """Values in a row."""
        return self.shape[-1]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        block, width = GGML_QUANT_SIZES[self.kind]
        return self.columns // block * width


class GgufFile:
    """A GGUF file whose header has been checked."""

    def __init__(self, path: Path) -> None:
        self.file = StoredFile(path)
        cursor = _Cursor(self.file)
        tensor_count, value_count = _preamble(cursor)
        self.metadata = _metadata(cursor, value_count)
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= ALIGNMENT_LIMIT or alignment & (alignment - 1):
            raise cursor.wrong(f"has the alignment `{printable(alignment)}`, which is not a power of two")
        described = _descriptions(cursor, tensor_count)
        self.header_size = cursor.at
        base = -(-cursor.at // alignment) * alignment
        self.tensors = _placed(described, base, alignment, self.file)

    def header(self) -> bytes:
        """The bytes before the tensor data."""
        return self.file.bytes_at(0, self.header_size)

    def raw(self, info: TensorInfo, first: int = 0, count: int | None = None) -> np.ndarray:
        """Rows of a tensor as stored: uint8 (rows, row_bytes)."""
        rows = info.size // info.row_bytes
        count = rows - first if count is None else count
        return self.file.read_at(info.start + first * info.row_bytes, count * info.row_bytes).reshape(count, -1)

    def values(self, info: TensorInfo) -> np.ndarray:
        """A tensor's values: float16 and float32 as stored, all other types as float32."""
        if info.kind.name in FLOATS:
            return self.raw(info).view(FLOATS[info.kind.name]).reshape(info.shape)
        if info.kind.name == "BF16":
            return bfloat16_to_float32(self.raw(info).view("<u2")).reshape(info.shape)
        out = np.empty((info.size // info.row_bytes, info.columns), np.float32)
        step = max(1, CHUNK // info.columns)
        with np.errstate(all="ignore"):  # a hostile scale may be infinite
            for first in range(0, len(out), step):
                part = out[first : first + step]
                part[...] = dequantize(self.raw(info, first, len(part)), info.kind)
        return out.reshape(info.shape)

    def sample(self, info: TensorInfo, size: int) -> bytes:
        """Raw bytes from the beginning, the middle and the end of a tensor."""
        return b"".join(self.file.bytes_at(info.start + at, n) for at, n in sample_ranges(info.size, size))


class _Cursor:
    """Reads the header from front to back; never asks the file for more than it has."""

    def __init__(self, file: StoredFile) -> None:
        self.file = file
        self.at = 0
        self._buffer = b""
        self._start = 0  # of the buffer in the file

    def wrong(self, what: str) -> CheckpointError:
        """An error about this file."""
        return CheckpointError(f"`{printable(self.file.path)}` {what}", AGAIN)

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        first = self.at - self._start
        if first + size > len(self._buffer):
            self._fill(size)
            first = 0
        self.at += size
        return self._buffer[first : first + size]

    def _fill(self, size: int) -> None:
        """Buffer at least the next `size` bytes."""
        if self.at + size > self.file.size:
            raise self.file.short(self.at, size)
        if self.at + size > HEADER_LIMIT:
            raise self.wrong(f"has a header of more than {HEADER_LIMIT} bytes")
        self._buffer = self.file.bytes_at(self.at, min(max(size, BUFFER), self.file.size - self.at))
        self._start = self.at

    def number(self, code: str) -> int | float | bool:
        """The next scalar of `struct` code `code`."""
        data = self.take(struct.calcsize("<" + code))
        if code == "?":
            return data != b"\0"
        return struct.unpack("<" + code, data)[0]

    def count(self, what: str, least: int) -> int:
        """The next 64-bit count of things that take at least `least` bytes each."""
        value = self.number("Q")
        if value * least > self.file.size - self.at:
            raise self.wrong(f"claims {what} of `{value}`, more than its {self.file.size} bytes can hold")
        return value

    def text(self, what: str) -> str:
        """The next string; `what` it is, for errors."""
        length = int.from_bytes(self.take(8), "little")
        if length > STRING_LIMIT:
            raise self.wrong(f"claims `{length}` bytes for {what}, more than the {STRING_LIMIT} allowed")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self.wrong(f"has {what} that is not UTF-8 text") from None


def _preamble(cursor: _Cursor) -> tuple[int, int]:
    """Magic and version; the counts of tensors and of metadata values."""
    if cursor.take(4) != b"GGUF":
        raise cursor.wrong("does not begin with `GGUF`")
    version = cursor.number("I")
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = f"big-endian version `{swapped}`" if swapped in VERSIONS else f"version `{version}`"
        raise UnsupportedModelError(
            f"`{printable(cursor.file.path)}` is GGUF {what}", "convert it to little-endian version 3 with llama.cpp"
        )
    counts = cursor.count("a number of tensors", 24), cursor.count("a number of metadata values", 13)
    if max(counts) > COUNT_LIMIT:
        raise cursor.wrong(f"claims `{max(counts)}` tensors or metadata values, more than the {COUNT_LIMIT} allowed")
    return counts


def _metadata(cursor: _Cursor, count: int) -> dict[str, Value]:
    """The metadata by key."""
    out: dict[str, Value] = {}
    for _ in range(count):
        key = cursor.text("a metadata key")
        if key in out:
            raise cursor.wrong(f"has the metadata key `{printable(key)}` twice")
        out[key] = _value(cursor, cursor.number("I"), key)
    return out


def _value(cursor: _Cursor, kind: int, key: str) -> Value:
    """One metadata value; arrays of numbers are numpy arrays, arrays of strings are lists."""
    if kind in SCALARS:
        return cursor.number(SCALARS[kind])
    if kind == STRING:
        return cursor.text(f"`{printable(key)}`")
    if kind != ARRAY:
        raise cursor.wrong(f"has the unknown value type `{kind}` at `{printable(key)}`")
    item = cursor.number("I")
    label = f"a length of `{printable(key)}`"
    if item == STRING:
        length = cursor.count(label, 8)
        if length > TEXTS_LIMIT:
            raise cursor.wrong(f"claims {label} of `{length}` strings, more than the {TEXTS_LIMIT} allowed")
        label = f"an item of `{printable(key)}`"
        return [cursor.text(label) for _ in range(length)]
    if item not in SCALARS:
        what = "an array of arrays" if item == ARRAY else f"an array of unknown type `{item}`"
        raise cursor.wrong(f"has {what} at `{printable(key)}`")
    dtype = np.dtype("u1" if SCALARS[item] == "?" else "<" + SCALARS[item])
    return np.frombuffer(cursor.take(cursor.count(label, dtype.itemsize) * dtype.itemsize), dtype)


def _descriptions(cursor: _Cursor, count: int) -> list[tuple[str, tuple[int, ...], int, int]]:
    """Name, shape, type number and offset of each tensor, as the file has them."""
    out = []
    for _ in range(count):
        name = cursor.text("a tensor name")
        rank = cursor.number("I")
        if not 1 <= rank <= 4:
            raise cursor.wrong(f"gives tensor `{printable(name)}` `{rank}` dimensions; 1 to 4 are allowed")
        shape = struct.unpack(f"<{rank}Q", cursor.take(8 * rank))[::-1]
        kind, offset = struct.unpack("<IQ", cursor.take(12))
        out.append((name, shape, kind, offset))
    return out


def _placed(
    described: list[tuple[str, tuple[int, ...], int, int]], base: int, alignment: int, file: StoredFile
) -> dict[str, TensorInfo]:
    """The tensors by name, checked to lie inside the file, aligned and apart."""
    out: dict[str, TensorInfo] = {}
    for name, shape, number, offset in described:
        label = f"tensor `{printable(name)}` in `{printable(file.path)}`"
        if name in out:
            raise CheckpointError(f"{label} is described twice", AGAIN)
        kind = _kind(number, label)
        block, width = GGML_QUANT_SIZES[kind]
        if 0 in shape or shape[-1] % block:
            raise CheckpointError(
                f"{label} has the shape `{printable(shape)}`, which `{kind.name}` cannot store", AGAIN
            )
        if offset % alignment:
            raise CheckpointError(f"{label} begins at `{offset}`, which is not a multiple of {alignment}", AGAIN)
        size = math.prod(shape) // block * width
        if base + offset + size > file.size:
            raise CheckpointError(
                f"{label} needs {size} bytes at offset {base + offset}, but the file has only {file.size}", AGAIN
            )
        out[name] = TensorInfo(name, shape, kind, base + offset, size)
    end = 0
    for info in sorted(out.values(), key=lambda info: info.start):
        if info.start < end:
            raise CheckpointError(
                f"tensor `{printable(info.name)}` in `{printable(file.path)}` overlaps another", AGAIN
            )
        end = info.start + info.size
    return out


def _kind(number: int, label: str) -> GGMLQuantizationType:
    """The type a number stands for, if it can be read."""
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise CheckpointError(
            f"{label} has the unknown type `{number}`", "update the gguf package, or " + AGAIN
        ) from None
    if kind.name in UNREADABLE:
        raise UnsupportedModelError(f"{label} is stored as `{kind.name}`, which cannot be read as weights", AGAIN)
    return kind
