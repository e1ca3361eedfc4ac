"""Read the metadata of one architecture in a GGUF file, with types checked."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from argosy.model_defs.checkpoint.gguf_file import MetadataValue
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

LIMIT = 1 << 31
# Keys that do not affect the computation, or repeat what the tensors show.
SILENT = ("vocab_size", "tensor_data_layout", "rope.scaling.finetuned")


class Metadata:
    """Typed access to the metadata of one architecture; remembers which keys were read."""

    def __init__(self, values: Mapping[str, MetadataValue], architecture: str) -> None:
        self.values = values
        self.architecture = architecture
        self._read = {f"{architecture}.{key}" for key in SILENT}

    def get(self, key: str) -> MetadataValue | None:
        """Return the value at `<architecture>.key`, or None."""
        self._read.add(f"{self.architecture}.{key}")
        return self.values.get(f"{self.architecture}.{key}")

    def integer(self, key: str, default: int | None = None) -> int:
        """Return the positive integer at `key`, which may be an array with the same value for every layer."""
        value = self.get(key)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu" and (value == value[0]).all():
            value = int(value[0])
        if value is None and default is not None:
            return default
        if value is None:
            raise CheckpointError(f"the GGUF file lacks `{self.architecture}.{key}`", "convert it again with llama.cpp")
        if isinstance(value, np.ndarray):
            raise UnsupportedModelError(
                f"`{self.architecture}.{key}` differs from layer to layer", "that is not supported"
            )
        if type(value) is not int or not 0 < value < LIMIT:
            raise self._wrong(key, value, "a whole number above zero")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return the finite number at `key`."""
        value = self.get(key)
        if value is None and default is not None:
            return default
        if value is None:
            raise CheckpointError(f"the GGUF file lacks `{self.architecture}.{key}`", "convert it again with llama.cpp")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self._wrong(key, value, "a finite number")
        # GGUF rounds to 32 bits: 1e-5 reads back as 9.99999974e-06. Recover the shortest decimal that rounds to it.
        return float(str(np.float32(value)))

    def flag(self, key: str, default: bool) -> bool:
        """Return the boolean at `key`."""
        value = self.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise self._wrong(key, value, "true or false")
        return value

    def only(self, key: str, allowed: object) -> None:
        """Refuse any value at `key` but `allowed`."""
        value = self.get(key)
        if value is not None and not (np.isscalar(value) and value == allowed):
            raise UnsupportedModelError(
                f"`{self.architecture}.{key}` is `{one_line(value)}`, only `{allowed}` is supported",
                "use another model",
            )

    def refuse_rest(self) -> None:
        """Refuse keys of the architecture that were not read."""
        for key in self.values:
            if key.startswith(f"{self.architecture}.") and key not in self._read:
                raise UnsupportedModelError(
                    f"the GGUF file asks for `{one_line(key)}`, which is not supported", "use another model"
                )

    def _wrong(self, key: str, value: object, wanted: str) -> CheckpointError:
        return CheckpointError(
            f"`{self.architecture}.{key}` is `{one_line(value)}`, which is not {wanted}", "the file is damaged"
        )
