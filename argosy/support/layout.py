"""Tensor descriptions go in, the fingerprint that ties a weights directory to a library comes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable


def weights_layout(tensors: Iterable[tuple[str, tuple[int, ...], str]]) -> str:
    """SHA-256 (hex) of the canonical JSON of (name, shape, dtype), sorted by name: storage order is no matter."""
    rows = sorted([name, [int(dim) for dim in shape], dtype] for name, shape, dtype in tensors)
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()
