"""Define the inputs of conversion: a checkpoint, parameters, and their sources.

`argosy.model_defs` implements these protocols; it builds on this package, which therefore cannot import it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from argosy.quant.formats import BlockMatrix


class TensorSource(Protocol):
    """Tensors under their Hugging Face names, read one at a time."""

    def names(self) -> tuple[str, ...]: ...
    def shape(self, name: str) -> tuple[int, ...]: ...
    def stored_type(self, name: str) -> str: ...
    def read(self, name: str) -> np.ndarray: ...
    def read_blocks(self, name: str) -> BlockMatrix | None: ...


class ParameterSource(Protocol):
    """A checkpoint tensor that becomes rows of a parameter, after `rows` has adapted it."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def reorders_rows_only(self) -> bool: ...
    def rows(self, array: np.ndarray) -> np.ndarray: ...


class StoredParameter(Protocol):
    """A tensor of the network: `linear` and `embedding` are matrices that may be quantized, `plain` is not."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def sources(self) -> Sequence[ParameterSource]: ...
