"""Read metadata and tensors from a GGUF file, whose counts, lengths and offsets are checked before use.

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
from argosy.model_defs.checkpoint.storage import open_file
from argosy.support.bounded_file import AGAIN, BoundedFile, Cursor
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

MetadataValue = int | float | bool | str | np.ndarray | list[str]

VERSIONS = (2, 3)
STRING_LIMIT = 16 << 20  # bytes; the longest genuine string is a chat template
# Strings in all arrays, and in one of them half of that. The largest vocabularies have 262144 tokens, 514906 merges.
TEXTS_LIMIT = 1_200_000
HEADER_LIMIT = 1 << 28  # bytes of metadata and descriptions together
COUNT_LIMIT = 1 << 16  # tensors, and metadata values; the largest models have a few thousand tensors
ALIGNMENT_LIMIT = 1 << 20
CHUNK = 1 << 19  # values dequantized at a time
STRING, ARRAY = 8, 9
SCALARS = {  # GGUF value type -> struct code
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
FLOATS = {"F32": "<f4", "F16": "<f2"}
# Tensor types that never hold weights (integers, doubles, ggml's activations) or that `gguf` cannot dequantize.
UNREADABLE = frozenset({"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K", "Q1_0"})


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor's type, shape and place in the file. `shape` is in the order of numpy, the reverse of GGUF's."""

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
        self.file = open_file(path)
        cursor = Cursor(self.file, HEADER_LIMIT)
        tensor_count, value_count = _preamble(cursor)
        self.metadata = _metadata(cursor, value_count)
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= ALIGNMENT_LIMIT or alignment & (alignment - 1):
            raise cursor.file.wrong(f"has the alignment `{one_line(alignment)}`, which is not a power of two")
        described = _descriptions(cursor, tensor_count)
        self.header_size = cursor.at
        base = -(-cursor.at // alignment) * alignment
        self.tensors = _placed(described, base, alignment, self.file)

    def header(self) -> bytes:
        """Read the bytes before the tensor data."""
        return self.file.read(0, self.header_size)

    def raw(self, info: GgufTensor, first: int = 0, count: int | None = None) -> np.ndarray:
        """Read `count` rows of a tensor from row `first` on, as stored: uint8 (rows, row_bytes)."""
        rows = info.size // info.row_bytes
        count = rows - first if count is None else count
        return self.file.array(info.start + first * info.row_bytes, count * info.row_bytes).reshape(count, -1)

    def values(self, info: GgufTensor) -> np.ndarray:
        """Read a tensor's values: float16 and float32 as stored, all other types as float32."""
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

    def sample(self, info: GgufTensor, size: int) -> bytes:
        """Read raw bytes from the beginning, the middle and the end of a tensor."""
        return b"".join(self.file.read(info.start + at, n) for at, n in sample_ranges(info.size, size))


def _preamble(cursor: Cursor) -> tuple[int, int]:
    """Check magic and version; return the number of tensors and of metadata values."""
    if cursor.take(4) != b"GGUF":
        raise cursor.file.wrong("does not begin with `GGUF`")
    version = cursor.integer(4)
    if version not in VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = f"big-endian version `{swapped}`" if swapped in VERSIONS else f"version `{version}`"
        raise UnsupportedModelError(
            f"`{cursor.file.name}` is GGUF {what}", "convert it to little-endian version 3 with llama.cpp"
        )
    counts = cursor.count("a number of tensors", 24), cursor.count("a number of metadata values", 13)
    if max(counts) > COUNT_LIMIT:
        what = f"`{max(counts)}` tensors or metadata values"
        raise cursor.file.wrong(f"claims {what}, more than the {COUNT_LIMIT} allowed")
    return counts


def _metadata(cursor: Cursor, count: int) -> dict[str, MetadataValue]:
    """Read the metadata."""
    out: dict[str, MetadataValue] = {}
    texts = TEXTS_LIMIT
    for _ in range(count):
        key = cursor.text("a metadata key", STRING_LIMIT)
        if key in out:
            raise cursor.file.wrong(f"has the metadata key `{one_line(key)}` twice")
        value = out[key] = _value(cursor, cursor.integer(4), key, texts)
        texts -= len(value) if isinstance(value, list) else 0
    return out


def _value(cursor: Cursor, kind: int, key: str, texts: int) -> MetadataValue:
    """Read one metadata value; arrays of numbers become numpy arrays, arrays of at most `texts` strings lists."""
    if kind in SCALARS:
        return cursor.scalar(SCALARS[kind])
    if kind == STRING:
        return cursor.text(f"`{one_line(key)}`", STRING_LIMIT)
    if kind != ARRAY:
        raise cursor.file.wrong(f"has the unknown value type `{kind}` at `{one_line(key)}`")
    item = cursor.integer(4)
    label = f"a length of `{one_line(key)}`"
    if item == STRING:
        length = cursor.count(label, 8)
        if length > min(texts, TEXTS_LIMIT // 2):
            raise cursor.file.wrong(f"claims {label} of `{length}` strings, more than are allowed")
        label = f"an item of `{one_line(key)}`"
        return cursor.texts(length, label, STRING_LIMIT)
    if item not in SCALARS:
        what = "an array of arrays" if item == ARRAY else f"an array of unknown type `{item}`"
        raise cursor.file.wrong(f"has {what} at `{one_line(key)}`")
    dtype = np.dtype("u1" if SCALARS[item] == "?" else "<" + SCALARS[item])
    return np.frombuffer(cursor.take(cursor.count(label, dtype.itemsize) * dtype.itemsize), dtype)


def _descriptions(cursor: Cursor, count: int) -> list[tuple[str, tuple[int, ...], int, int]]:
    """Read the name, shape, type number and offset of every tensor."""
    out = []
    for _ in range(count):
        name = cursor.text("a tensor name", STRING_LIMIT)
        rank = cursor.integer(4)
        if not 1 <= rank <= 4:
            raise cursor.file.wrong(f"gives tensor `{one_line(name)}` `{rank}` dimensions; 1 to 4 are allowed")
        shape = struct.unpack(f"<{rank}Q", cursor.take(8 * rank))[::-1]
        kind, offset = struct.unpack("<IQ", cursor.take(12))
        out.append((name, shape, kind, offset))
    return out


def _placed(
    described: list[tuple[str, tuple[int, ...], int, int]], base: int, alignment: int, file: BoundedFile
) -> dict[str, GgufTensor]:
    """Check that the tensors lie inside the file, aligned and without overlaps; return them by name."""
    out: dict[str, GgufTensor] = {}
    for name, shape, number, offset in described:
        label = f"tensor `{one_line(name)}` in `{file.name}`"
        if name in out:
            raise CheckpointError(f"{label} is described twice", AGAIN)
        kind = _kind(number, label)
        block, width = GGML_QUANT_SIZES[kind]
        if 0 in shape or shape[-1] % block:
            raise CheckpointError(f"{label} has the shape `{one_line(shape)}`, which `{kind.name}` cannot store", AGAIN)
        if offset % alignment:
            raise CheckpointError(f"{label} begins at `{offset}`, which is not a multiple of {alignment}", AGAIN)
        size = math.prod(shape) // block * width
        if base + offset + size > file.size:
            raise CheckpointError(
                f"{label} needs {size} bytes at offset {base + offset}, but the file has only {file.size}", AGAIN
            )
        out[name] = GgufTensor(name, shape, kind, base + offset, size)
    end = 0
    for info in sorted(out.values(), key=lambda info: info.start):
        if info.start < end:
            raise CheckpointError(f"tensor `{one_line(info.name)}` in `{file.name}` overlaps another", AGAIN)
        end = info.start + info.size
    return out


def _kind(number: int, label: str) -> GGMLQuantizationType:
    """Return the type that `number` stands for, if its values can be read."""
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise CheckpointError(
            f"{label} has the unknown type `{number}`", "update the gguf package, or " + AGAIN
        ) from None
    if kind.name in UNREADABLE:
        raise UnsupportedModelError(f"{label} is stored as `{kind.name}`, which cannot be read as weights", AGAIN)
    return kind
