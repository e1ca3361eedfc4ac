"""Write tiny safetensors and GGUF files, sound or malformed, without any checks."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace

import numpy as np

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def safetensors(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """Make a safetensors file; `header` is JSON text as bytes, or an object to write as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def text(value: str | bytes) -> bytes:
    """Make a GGUF string."""
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind: int, value: object) -> bytes:
    """Make a GGUF value of type `kind`, without the type."""
    return text(value) if kind == STRING else struct.pack("<" + CODES[kind], value)  # type: ignore[arg-type]


def typed(kind: int, value: object) -> bytes:
    """Make a GGUF value with its type."""
    return struct.pack("<I", kind) + scalar(kind, value)


def array(kind: int, values: list, count: int | None = None) -> bytes:
    """Make a GGUF array with its type."""
    body = b"".join(scalar(kind, value) for value in values)
    return struct.pack("<IIQ", ARRAY, kind, len(values) if count is None else count) + body


@dataclass(frozen=True)
class Tensor:
    """A tensor description: `dims` in GGUF's order (rows last), `kind` its type, `offset` None: the next free one."""

    name: str | bytes
    dims: tuple[int, ...]
    data: bytes
    kind: int = 0
    offset: int | None = None
    rank: int | None = None


@dataclass(frozen=True)
class Gguf:
    """The content of a GGUF file; `values` are (key, type and value as bytes)."""

    values: tuple[tuple[str | bytes, bytes], ...] = ()
    tensors: tuple[Tensor, ...] = ()
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    value_count: int | None = None
    alignment: int = 32

    def set(self, key: str, value: bytes | None) -> Gguf:
        """Return the file with another value at `key`, or without it."""
        kept = tuple(pair for pair in self.values if pair[0] != key)
        return replace(self, values=kept if value is None else (*kept, (key, value)))

    def tensor(self, which: str, **changes: object) -> Gguf:
        """Return the file with another description of the tensor `which`."""
        assert any(t.name == which for t in self.tensors), which
        return replace(self, tensors=tuple(replace(t, **changes) if t.name == which else t for t in self.tensors))

    def parts(self) -> tuple[bytes, bytes, bytes]:
        """Serialize preamble and metadata, tensor descriptions with padding, and data."""
        counts = (
            len(self.tensors) if self.tensor_count is None else self.tensor_count,
            len(self.values) if self.value_count is None else self.value_count,
        )
        head = self.magic + struct.pack("<IQQ", self.version, *counts)
        head += b"".join(text(key) + value for key, value in self.values)
        table, data = b"", b""
        for t in self.tensors:
            offset = len(data) if t.offset is None else t.offset
            rank = len(t.dims) if t.rank is None else t.rank
            table += text(t.name) + struct.pack(f"<I{len(t.dims)}QIQ", rank, *t.dims, t.kind, offset)
            data += t.data + b"\0" * (-len(t.data) % self.alignment)
        table += b"\0" * (-(len(head) + len(table)) % self.alignment)
        return head, table, data

    def bytes(self) -> bytes:
        """Serialize the file."""
        return b"".join(self.parts())


TOKENS = ["a", "b", "ab", "<s>", "</s>", "c", "\u0120", "d"]


def tiny_values(architecture: str = "llama") -> tuple[tuple[str, bytes], ...]:
    """Return the metadata of a sound one-layer model with a byte-level tokenizer."""
    sizes = {"block_count": 1, "context_length": 64, "embedding_length": 32, "feed_forward_length": 32}
    sizes |= {"attention.head_count": 2, "attention.head_count_kv": 1}
    return (
        ("general.architecture", typed(STRING, architecture)),
        *((f"{architecture}.{key}", typed(U32, value)) for key, value in sizes.items()),
        (f"{architecture}.attention.layer_norm_rms_epsilon", typed(F32, 1e-5)),
        ("tokenizer.ggml.model", typed(STRING, "gpt2")),
        ("tokenizer.ggml.pre", typed(STRING, "gpt-2")),
        ("tokenizer.ggml.tokens", array(STRING, TOKENS)),
        ("tokenizer.ggml.token_type", array(I32, [1, 1, 1, 3, 3, 1, 1, 1])),
        ("tokenizer.ggml.merges", array(STRING, ["a b"])),
        ("tokenizer.ggml.bos_token_id", typed(U32, 3)),
        ("tokenizer.ggml.eos_token_id", typed(U32, 4)),
    )


def tiny_gguf() -> Gguf:
    """Return a sound one-layer llama with float32 weights."""
    shapes = {"token_embd": (32, 8), "output_norm": (32,), "blk.0.attn_norm": (32,), "blk.0.ffn_norm": (32,)}
    shapes |= {
        "blk.0.attn_q": (32, 32),
        "blk.0.attn_k": (32, 16),
        "blk.0.attn_v": (32, 16),
        "blk.0.attn_output": (32, 32),
    }
    shapes |= {"blk.0.ffn_gate": (32, 32), "blk.0.ffn_up": (32, 32), "blk.0.ffn_down": (32, 32)}
    rng = np.random.default_rng(0)
    tensors = tuple(
        Tensor(f"{name}.weight", dims, rng.standard_normal(dims[::-1]).astype("<f4").tobytes())
        for name, dims in shapes.items()
    )
    return Gguf(tiny_values(), tensors)


@dataclass(frozen=True)
class Directory:
    """The content of a Hugging Face directory by file name."""

    files: dict[str, bytes] = field(default_factory=dict)

    def set(self, name: str, content: bytes | None) -> Directory:
        """Return the directory with another file, or without it."""
        kept = {key: value for key, value in self.files.items() if key != name}
        return Directory(kept if content is None else {**kept, name: content})


def tiny_tensors() -> dict[str, np.ndarray]:
    """Return two tensors for a safetensors file."""
    rng = np.random.default_rng(1)
    return {"x.weight": rng.standard_normal((4, 8)).astype("<f4"), "y.weight": rng.standard_normal((6,)).astype("<f2")}


def tiny_header() -> dict[str, dict]:
    """Return the header for `tiny_tensors`."""
    return {
        "x.weight": {"dtype": "F32", "shape": [4, 8], "data_offsets": [0, 128]},
        "y.weight": {"dtype": "F16", "shape": [6], "data_offsets": [128, 140]},
    }


def tiny_data() -> bytes:
    """Return the data for `tiny_header`."""
    return b"".join(tensor.tobytes() for tensor in tiny_tensors().values())


TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
}


def tiny_directory() -> Directory:
    """Return a Hugging Face directory that can be read, though not built."""
    return Directory(
        {
            "config.json": json.dumps({"model_type": "llama", "vocab_size": 8}).encode(),
            "model.safetensors": safetensors(tiny_header(), tiny_data()),
            "tokenizer.json": json.dumps(TOKENIZER).encode(),
        }
    )
