"""Present a Hugging Face directory (`config.json`, weights, tokenizer files) as a checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from argosy.model_defs.checkpoint.base import Checkpoint
from argosy.model_defs.checkpoint.hf_tokenizer import TOKENIZER_INPUTS, tokenizer_files
from argosy.model_defs.checkpoint.safetensors_file import SafetensorsFile
from argosy.model_defs.checkpoint.storage import gguf_files, parse_object, read_small
from argosy.model_defs.checkpoint.torch_file import TorchFile
from argosy.support.bounded_file import path_line
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line


class TensorFile(Protocol):
    """A file that holds named tensors."""

    stored: str

    def names(self) -> tuple[str, ...]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def stored_type(self, name: str) -> str: ...
    def read(self, name: str) -> np.ndarray: ...
    def sample(self, name: str, size: int) -> bytes: ...
    def pieces(self, name: str) -> Iterator[bytes]: ...


# In order of preference: a single file, the index of its shards, and the class that reads each.
WEIGHTS: tuple[tuple[str, str, Callable[[Path], TensorFile]], ...] = (
    ("model.safetensors", "model.safetensors.index.json", SafetensorsFile),
    ("pytorch_model.bin", "pytorch_model.bin.index.json", TorchFile),
)


class HuggingFaceCheckpoint(Checkpoint):
    """A directory as `save_pretrained` writes it."""

    def __init__(self, path: Path) -> None:
        config = parse_object(read_small(path / "config.json"), f"`{path_line(path / 'config.json')}`")
        if isinstance(quantized := config.get("quantization_config"), dict):
            raise UnsupportedModelError(
                f"`{path_line(path)}` is already quantized with `{one_line(quantized.get('quant_method'))}`",
                "use the original checkpoint, or a GGUF file",
            )
        self._files = _open_weights(path)
        super().__init__(path, "safetensors" if self._files[0].stored == "safetensors" else "bin", config)
        self._where: dict[str, TensorFile] = {}
        for file in self._files:
            for name in file.names():
                if name in self._where:
                    raise CheckpointError(
                        f"tensor `{one_line(name)}` is in two shards of `{path_line(path)}`", "download it again"
                    )
                self._where[name] = file

    def names(self) -> tuple[str, ...]:
        return tuple(self._where)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file(name).shape(name)

    def stored_type(self, name: str) -> str:
        return self._file(name).stored_type(name)

    def read(self, name: str) -> np.ndarray:
        return self._file(name).read(name)

    def equal(self, one: str, other: str) -> bool:
        """See `Checkpoint.equal`; tensors of one type are compared piece by piece, without reading them whole."""
        if self.shape(one) != self.shape(other):
            return False
        if self.stored_type(one) != self.stored_type(other):
            return super().equal(one, other)
        pieces = (self._file(name).pieces(name) for name in (one, other))
        return all(a == b for a, b in zip(*pieces, strict=True))

    def tokenizer_files(self) -> dict[str, bytes]:
        return tokenizer_files(self.path, self.config)

    def _identity(self) -> Iterator[bytes]:
        yield json.dumps(self.config, sort_keys=True).encode()
        for name in TOKENIZER_INPUTS:
            if (self.path / name).exists():
                yield name.encode()
                yield read_small(self.path / name)

    def _sample(self, name: str, size: int) -> bytes:
        return self._file(name).sample(name, size)

    def _file(self, name: str) -> TensorFile:
        if name not in self._where:
            raise self._unknown(name)
        return self._where[name]


def _open_weights(path: Path) -> tuple[TensorFile, ...]:
    """Open the weight files of a directory."""
    for single, index, reader in WEIGHTS:
        if (path / single).exists():
            return (reader(path / single),)
        if (path / index).exists():
            return _open_shards(path, index, reader)
    expected = " or ".join(f"`{name}`" for row in WEIGHTS for name in row[:2])
    raise CheckpointError(f"`{path_line(path)}` holds no weights", _weights_hint(path, expected))


def _weights_hint(path: Path, expected: str) -> str:
    """Say what the directory holds in place of weights."""
    if (path / "adapter_config.json").exists():
        return "it is an adapter: merge it into its base model first (peft: merge_and_unload)"
    if gguf := gguf_files(path):
        return f"name the GGUF file itself: --model {path_line(gguf[0])}"
    return f"it should hold {expected}"


def _open_shards(path: Path, index: str, reader: Callable[[Path], TensorFile]) -> tuple[TensorFile, ...]:
    """Open the files that an index names, checking that each holds the tensors the index lists."""
    what = f"`{path_line(path / index)}`"
    hint = "download or copy the directory again"
    weight_map = parse_object(read_small(path / index), what).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{what} has no `weight_map`", hint)
    for name in weight_map.values():
        if not isinstance(name, str) or name in ("", ".", "..") or any(c in name for c in "/\\\0"):
            raise CheckpointError(f"{what} names the shard `{one_line(name)}`, which is not a plain file name", hint)
    _check_listed(path, set(weight_map.values()), what, hint)
    shards = {name: reader(path / name) for name in sorted(set(weight_map.values()))}
    held = {name: frozenset(shard.names()) for name, shard in shards.items()}
    for tensor, name in weight_map.items():
        if tensor not in held[name]:
            raise CheckpointError(
                f"{what} says that `{one_line(name)}` holds `{one_line(tensor)}`, but it does not", hint
            )
    return tuple(shards.values())


def _check_listed(path: Path, listed: set[str], what: str, hint: str) -> None:
    """Check that the index names all shards of its set: those of `model-00001-of-00003` with the same front and end."""
    pattern = re.compile(r"(.+-)\d{5}(-of-\d{5}\.\w+)")
    sets = {match.groups() for name in listed if (match := pattern.fullmatch(name))}
    for file in sorted(path.iterdir()):
        match = pattern.fullmatch(file.name)
        if match and match.groups() in sets and file.name not in listed:
            raise CheckpointError(f"{what} does not name `{one_line(file.name)}`, which belongs to its shards", hint)
