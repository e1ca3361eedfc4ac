"""The interface of all checkpoints: names, shapes, tensors one at a time, tokenizer files, a digest."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from argosy.support.bounded_file import path_line
from argosy.support.errors import CheckpointError
from argosy.support.text import one_line

BlockKind = Literal["Q4_0", "Q4_1", "Q8_0"]
PIECE = 1 << 20  # bytes of a tensor that are compared at a time
SAMPLE = 4096  # bytes the digest covers at the beginning, the middle and the end of each tensor


@dataclass(frozen=True, slots=True)
class Blocks:
    """A quantized (n, k) matrix as stored in its file: groups of 32 along k.

    `q` is (n, k) uint8 in 0..15 for Q4_0 and Q4_1, int8 for Q8_0; `scale` and `min` are (n, k / 32) float16.
    Value: (q - 8) * scale for Q4_0, q * scale + min for Q4_1, q * scale for Q8_0.
    """

    kind: BlockKind
    q: np.ndarray
    scale: np.ndarray
    min: np.ndarray | None = None

    def values(self) -> np.ndarray:
        """Return the matrix as float32 (n, k)."""
        n, k = self.q.shape
        q = self.q.astype(np.float32).reshape(n, k // 32, 32)
        if self.kind == "Q4_0":
            q -= 8
        q *= self.scale.astype(np.float32)[..., None]
        if self.min is not None:
            q += self.min.astype(np.float32)[..., None]
        return q.reshape(n, k)

    def rows(self, order: np.ndarray) -> Blocks:
        """Return the matrix with its rows in another order."""
        return Blocks(self.kind, self.q[order], self.scale[order], None if self.min is None else self.min[order])


class Checkpoint(ABC):
    """An open checkpoint, whose headers have been checked; tensors are read on demand, one at a time.

    `config` is the content of `config.json`, or its equivalent built from a GGUF file's metadata. All names are Hugging
    Face names. Tensors are read, not mapped, so memory holds one of them, and a file that shrinks meanwhile is an error
    and not a crash.
    """

    def __init__(self, path: Path, format: Literal["safetensors", "bin", "gguf"], config: dict[str, object]) -> None:
        self.path = path
        self.format = format
        self.config = config

    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `name` in Hugging Face's order."""

    @abstractmethod
    def stored_type(self, name: str) -> str:
        """Return how `name` is stored: "F32", "F16", "BF16", "Q4_1", ..."""

    @abstractmethod
    def read(self, name: str) -> np.ndarray:
        """Read the values of `name`: float16 and float32 as stored, other floats and all blocks as float32.

        Raises CheckpointError for an unknown name and for a file that ends early.
        """

    def equal(self, one: str, other: str) -> bool:
        """Return whether two tensors have the same shape and the same values."""
        if self.shape(one) != self.shape(other):
            return False
        return np.array_equal(self.read(one), self.read(other))

    def read_blocks(self, name: str) -> Blocks | None:
        """Read the blocks of `name`; None unless it is stored in Q4_0, Q4_1 or Q8_0 blocks along its last axis."""
        return None

    @abstractmethod
    def tokenizer_files(self) -> dict[str, bytes]:
        """Return the tokenizer's files by name: always `tokenizer.json` and `tokenizer_config.json`.

        These two hold all tokens, also those that other files of the checkpoint add. `generation_config.json` and
        `chat_template.jinja` are included if the checkpoint has them; a GGUF file's chat template is in
        `tokenizer_config.json`. Raises CheckpointError or UnsupportedModelError if there is no usable tokenizer.
        """

    @abstractmethod
    def _identity(self) -> Iterator[bytes]:
        """Yield what the digest covers besides the tensors."""

    @abstractmethod
    def _sample(self, name: str, size: int) -> bytes:
        """Read at most `size` raw bytes each from the beginning, the middle and the end of `name`."""

    def digest(self) -> str:
        """Return a SHA-256 (hex) that tells checkpoints apart without reading them whole.

        It covers the config, the tokenizer, and every tensor's name, shape, type and 12 KB of its bytes: beginning,
        middle and end. It does not depend on the path or on file times, and it does not stop a forger.
        """
        state = hashlib.sha256(self.format.encode())
        for part in self._identity():
            state.update(hashlib.sha256(part).digest())
        for name in sorted(self.names()):
            state.update(json.dumps([name, self.shape(name), self.stored_type(name)]).encode())
            state.update(self._sample(name, SAMPLE))
        return state.hexdigest()

    def _unknown(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"checkpoint `{path_line(self.path)}` has no tensor `{one_line(name)}`", "see `Checkpoint.names()`"
        )


def sample_ranges(length: int, size: int) -> tuple[tuple[int, int], ...]:
    """Return (offset, size) of the beginning, the middle and the end of `length` bytes, at most `size` each."""
    if length <= 3 * size:
        return ((0, length),)
    return ((0, size), ((length - size) // 2, size), (length - size, size))
