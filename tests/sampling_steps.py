"""The steps of the sampler one by one, for tests that look between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.penalties import Penalties
from argosy.runtime_bindings.engine.sampler import Kept, finite_best, narrow
from argosy.runtime_bindings.engine.workspace import Workspace


def adjust(logits: np.ndarray, params: SamplingParams, history: Sequence[int]) -> np.ndarray:
    """Apply steps 1 and 2 of `SamplingParams`; returns `logits` itself if they do nothing."""
    return Penalties(params).apply(logits, history, Workspace())[0]


def truncate(logits: np.ndarray, params: SamplingParams) -> tuple[np.ndarray | None, np.ndarray]:
    """Apply steps 3 to 6; returns the ids that are left, ascending (None: all), and their logits."""
    kept = narrow(Kept(logits, finite_best(logits)), params, Workspace()).compact()
    return kept.ids, kept.logits
