"""Describe tensors, and fingerprint their layout, which ties a weights directory to a library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

TensorInfo = tuple[str, tuple[int, ...], str]  # name, shape, dtype

def weights_layout(tensors: Iterable[TensorInfo]) -> str:
    """Return the SHA-256 (hex) of the canonical JSON of `tensors`, sorted by name; storage order does not matter."""
    rows = sorted([name, [int(dim) for dim in shape], dtype] for name, shape, dtype in tensors)
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
