"""Present a GGUF file as a checkpoint with Hugging Face names, config and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from argosy.model_defs.checkpoint.base import PIECE, BlockKind, Blocks, Checkpoint
from argosy.model_defs.checkpoint.gguf_config import config_from
from argosy.model_defs.checkpoint.gguf_file import GgufFile, GgufTensor
from argosy.model_defs.checkpoint.gguf_names import Translated, row_order, spelling_of, translate
from argosy.model_defs.checkpoint.gguf_tokenizer import tokenizer_files
from argosy.support.bounded_file import AGAIN, path_line
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

BLOCK_KINDS: dict[str, BlockKind] = {"Q4_0": "Q4_0", "Q4_1": "Q4_1", "Q8_0": "Q8_0"}


class GgufCheckpoint(Checkpoint):
    """A GGUF file of one of the architectures in `gguf_names`."""

    def __init__(self, path: Path) -> None:
        self.file = GgufFile(path)
        self.architecture = _architecture(self.file, path)
        spelling = spelling_of(self.architecture)
        tied = _is_tied(self.file)
        super().__init__(path, "gguf", config_from(self.file, self.architecture, tied))
        layers = self._number("num_hidden_layers", "n_layer")
        self._heads = self._number("num_attention_heads", "n_head")
        self._kv_heads = self._number("num_key_value_heads", "num_attention_heads", "n_head")
        self._tensors: dict[str, Translated] = {}
        for source, info in self.file.tensors.items():
            if tied and source == "output.weight":
                continue  # the same bytes as the embedding
            for translated in translate(spelling, source, info.shape, layers):
                self._tensors[translated.name] = translated
        for name in self._tensors:
            self._order(name)  # refuse rows that do not divide into heads early

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        change, stored = self._translated(name).change, self._info(name).shape
        if change == "stacked_heads":
            return stored[1:]
        return stored[::-1] if change == "transposed" else stored

    def stored_type(self, name: str) -> str:
        return self._info(name).kind.name

    def read(self, name: str) -> np.ndarray:
        translated, values = self._translated(name), self.file.values(self._info(name))
        if translated.change == "plus_one":
            return values.astype(np.float32) - 1
        if translated.change == "transposed":
            return np.ascontiguousarray(values.T)
        if translated.change == "stacked_heads":
            return values[translated.head].copy()
        order = self._order(name)
        return values if order is None else values[order]

    def read_blocks(self, name: str) -> Blocks | None:
        """See `Checkpoint.read_blocks`; None for GPT-2's matrices, whose blocks lie along the other axis."""
        info, order = self._info(name), self._order(name)
        if self._translated(name).change not in ("none", "rope_q", "rope_k", "ungrouped_qkv") or len(info.shape) != 2:
            return None
        blocks = _blocks(self.file, info)
        return blocks if blocks is None or order is None else blocks.rows(order)

    def tokenizer_files(self) -> dict[str, bytes]:
        rows = self._number("vocab_size")
        positions = self._number("max_position_embeddings", "n_positions")
        return tokenizer_files(self.file.metadata, self.architecture, rows, positions)

    def _identity(self) -> Iterator[bytes]:
        yield json.dumps(self.config, sort_keys=True).encode()
        yield self.file.header()

    def _sample(self, name: str, size: int) -> bytes:
        return self.file.sample(self._info(name), size)

    def _translated(self, name: str) -> Translated:
        if name not in self._tensors:
            raise self._unknown(name)
        return self._tensors[name]

    def _info(self, name: str) -> GgufTensor:
        return self.file.tensors[self._translated(name).source]

    def _order(self, name: str) -> np.ndarray | None:
        return row_order(self._translated(name).change, self._info(name).shape[0], self._heads, self._kv_heads)

    def _number(self, *keys: str) -> int:
        """Return the number at the first of `keys` that the config has."""
        value = next(self.config[key] for key in keys if key in self.config)
        assert isinstance(value, int), keys
        return value


def _architecture(file: GgufFile, path: Path) -> str:
    """Return `general.architecture`, refusing files that do not hold a whole model."""
    parts = file.metadata.get("split.count", 0)
    if type(parts) is not int or parts not in (0, 1):
        raise UnsupportedModelError(
            f"`{path_line(path)}` is one part of a split GGUF file",
            "join the parts: llama-gguf-split --merge FIRST OUT",
        )
    kind = file.metadata.get("general.type", "model")
    if not isinstance(kind, str) or kind != "model":
        raise UnsupportedModelError(
            f"`{path_line(path)}` holds a GGUF `{one_line(kind)}`, not a model", "name the model's file"
        )
    architecture = file.metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise CheckpointError(f"`{path_line(path)}` has no `general.architecture`", AGAIN)
    return one_line(architecture)


def _is_tied(file: GgufFile) -> bool:
    """Return whether the output matrix is the embedding: absent, or a copy of it."""
    output, embedding = (file.tensors.get(f"{name}.weight") for name in ("output", "token_embd"))
    if output is None or embedding is None:
        return output is None
    if (output.kind, output.shape) != (embedding.kind, embedding.shape):
        return False
    for at in range(0, output.size, PIECE):
        size = min(PIECE, output.size - at)
        if file.file.read(output.start + at, size) != file.file.read(embedding.start + at, size):
            return False
    return True


def _blocks(file: GgufFile, info: GgufTensor) -> Blocks | None:
    """Unpack the blocks of an (n, k) matrix, or return None if it is not stored in blocks.

    A block of 32 values is stored as the scale, for Q4_1 the minimum, then the values. The low nibbles of a 4-bit block
    are its first 16 values, the high nibbles the other 16.
    """
    kind = BLOCK_KINDS.get(info.kind.name)
    if kind is None:
        return None
    raw = file.raw(info)
    n, k = info.shape
    blocks = raw.reshape(n, k // 32, -1)
    floats = 2 if kind == "Q4_1" else 1
    header = np.ascontiguousarray(blocks[..., : 2 * floats]).view("<f2")  # (n, k / 32, floats)
    packed = blocks[..., 2 * floats :]
    if kind == "Q8_0":
        q = np.ascontiguousarray(packed).view(np.int8)
    else:
        q = np.concatenate((packed & 15, packed >> 4), axis=-1)
    minimum = header[..., 1].copy() if floats == 2 else None
    return Blocks(kind, q.reshape(n, k), header[..., 0].copy(), minimum)
