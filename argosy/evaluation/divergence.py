"""Measure in float64 how far one model's logits are from another's at the same positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from argosy.support.errors import ArtefactError

_ROWS = 32  # positions processed at once; bounds the float64 copies of (rows, vocab)


@dataclass(frozen=True, slots=True)
class Divergence:
    """Figures over `tokens` positions; `kl_*` in nats, from the reference's distribution p to the other model's q.

    The KL divergence at a position is the sum of p (log p - log q) over the vocabulary; `kl_error` is the standard
    error of the mean. Perplexity is e to the mean negative log-likelihood of the next token.
    """

    tokens: int
    perplexity: float
    reference_perplexity: float
    kl_mean: float
    kl_error: float
    kl_median: float
    kl_p99: float
    same_top: float


class DivergenceMeter:
    """Accumulates chunks of positions, keeping four numbers per position and no logits."""

    def __init__(self) -> None:
        self._kl: list[np.ndarray] = []
        self._surprise: list[np.ndarray] = []
        self._reference_surprise: list[np.ndarray] = []
        self._same: list[np.ndarray] = []

    def add(self, reference: np.ndarray, other: np.ndarray, following: np.ndarray) -> None:
        """Add positions: the logits (n, vocab) of both models, and the next tokens (n,).

        Raises ArtefactError if logits are not finite.
        """
        assert reference.shape == other.shape and len(following) == len(reference), (reference.shape, other.shape)
        for first in range(0, len(following), _ROWS):
            rows = slice(first, first + _ROWS)
            self._add_rows(reference[rows], other[rows], following[rows])

    def _add_rows(self, reference: np.ndarray, other: np.ndarray, following: np.ndarray) -> None:
        log_p, log_q = log_softmax(reference, "reference"), log_softmax(other, "artefact")
        self._kl.append((np.exp(log_p) * (log_p - log_q)).sum(axis=-1))
        row = np.arange(len(following))
        self._surprise.append(-log_q[row, following])
        self._reference_surprise.append(-log_p[row, following])
        self._same.append(reference.argmax(axis=-1) == other.argmax(axis=-1))

    def result(self) -> Divergence:
        """Return the figures over all positions added, of which there must be at least one."""
        assert self._kl, "nothing was added"
        kl = np.concatenate(self._kl)
        return Divergence(
            tokens=len(kl),
            perplexity=math.exp(np.concatenate(self._surprise).mean()),
            reference_perplexity=math.exp(np.concatenate(self._reference_surprise).mean()),
            kl_mean=float(kl.mean()),
            kl_error=float(kl.std() / math.sqrt(len(kl))),
            kl_median=float(np.median(kl)),
            kl_p99=float(np.percentile(kl, 99)),
            same_top=float(np.concatenate(self._same).mean()),
        )


def log_softmax(logits: np.ndarray, whose: str) -> np.ndarray:
    """Return log-probabilities along the last axis in float64; `whose` names the model in the error."""
    values = logits.astype(np.float64)
    if not np.isfinite(values).all():
        raise ArtefactError(f"the {whose} computes logits that are not finite", "build it again with `--force`")
    values -= values.max(axis=-1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return values
