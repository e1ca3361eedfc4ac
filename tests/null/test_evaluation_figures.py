"""The parts of evaluation that need no model: figures by their definitions, windows of a text, sampled text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from argosy.evaluation.compare import measure
from argosy.evaluation.divergence import DivergenceMeter
from argosy.evaluation.texts import BUNDLED_TEXT, Window, cut, read_text
from argosy.runtime_bindings.engine.batch import Batch
from argosy.runtime_bindings.engine.device import HostLogits
from argosy.runtime_bindings.engine.runner import RunnerLimits
from argosy.support.errors import ArtefactError, UsageError
from argosy.support.progress import SilentProgress

VOCABULARY = 11


def softmax(row: Sequence[float]) -> list[float]:
    """Compute softmax by its definition, one number at a time."""
    total = math.fsum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def test_figures_follow_their_definitions() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(0, 2, (75, VOCABULARY)).astype(np.float32)
    other = (reference + random.normal(0, 1, reference.shape)).astype(np.float32)
    following = random.integers(0, VOCABULARY, 75)
    meter = DivergenceMeter()
    meter.add(reference[:40], other[:40], following[:40])
    meter.add(reference[40:], other[40:], following[40:])
    found = meter.result()

    pairs = [(softmax(p), softmax(q)) for p, q in zip(reference.tolist(), other.tolist(), strict=True)]
    kl = sorted(math.fsum(x * math.log(x / y) for x, y in zip(p, q, strict=True)) for p, q in pairs)
    assert found.tokens == 75
    assert found.kl_mean == pytest.approx(math.fsum(kl) / 75, rel=1e-12)
    assert found.kl_median == pytest.approx(kl[37], rel=1e-12)
    assert kl[72] <= found.kl_p99 <= kl[74]
    assert found.same_top == sum(p.index(max(p)) == q.index(max(q)) for p, q in pairs) / 75
    likelihood = math.fsum(math.log(q[token]) for (_, q), token in zip(pairs, following.tolist(), strict=True))
    assert found.perplexity == pytest.approx(math.exp(-likelihood / 75), rel=1e-12)


def test_a_model_does_not_differ_from_itself_even_with_extreme_logits() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [3e38, -3e38, 1.0]], dtype=np.float32)
    meter = DivergenceMeter()
    meter.add(logits, logits, np.array([0, 0]))
    found = meter.result()
    assert (found.kl_mean, found.kl_p99, found.same_top, found.perplexity) == (0.0, 0.0, 1.0, 1.0)


def test_divergence_is_of_the_reference_to_the_artefact_and_not_the_other_way_round() -> None:
    sharp, flat = np.array([[5.0, 0.0]]), np.array([[0.0, 0.0]])
    there, back = DivergenceMeter(), DivergenceMeter()
    there.add(sharp, flat, np.array([0]))
    back.add(flat, sharp, np.array([0]))
    entropy = -sum(p * math.log(p) for p in softmax([5.0, 0.0]))
    assert there.result().kl_mean == pytest.approx(math.log(2) - entropy)
    assert back.result().kl_mean > 2 * there.result().kl_mean


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(bad: float) -> None:
    sound = np.zeros((1, 3), dtype=np.float32)
    broken = np.array([[0.0, bad, 0.0]], dtype=np.float32)
    with pytest.raises(ArtefactError, match="the artefact computes logits that are not finite"):
        DivergenceMeter().add(sound, broken, np.array([0]))
    with pytest.raises(ArtefactError, match="the reference computes"):
        DivergenceMeter().add(broken, sound, np.array([0]))


def test_windows_cover_the_text_and_begin_as_the_model_expects() -> None:
    tokens = list(range(100, 123))
    assert cut(tokens, (), 10) == [
        Window(tuple(tokens[:10]), 1), Window(tuple(tokens[10:20]), 1), Window(tuple(tokens[20:]), 1),
    ]  # fmt: skip
    assert cut(tokens, (1, 2), 13) == [Window((1, 2, *tokens[:11]), 2), Window((1, 2, *tokens[11:22]), 2),
                                       Window((1, 2, 122), 2)]  # fmt: skip
    assert len(cut(tokens, (), 22)) == 1, "a last window of one token predicts nothing"


def test_the_bundled_text_is_short_and_plain() -> None:
    text = read_text(BUNDLED_TEXT)
    assert 4000 <= len(text.encode()) <= 6500 and text.isascii()


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"caf\xe9 au lait", "byte 3"), (b" \n", "holds no text"), (None, "no such file")]
)
def test_texts_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence) as caught:
        read_text(path)
    assert str(path) in caught.value.message


class ToyStore:
    """Stores the tokens of each sequence."""

    def __init__(self) -> None:
        self.held: dict[int, list[int]] = {}

    def add(self, sequence: int) -> None:
        assert sequence not in self.held
        self.held[sequence] = []

    def remove(self, sequence: int) -> None:
        del self.held[sequence]


class ToyRunner:
    """A runner whose logits are a hash of all tokens so far, so that a wrong token changes them."""

    def __init__(self, chunk: int, seed: int = 0) -> None:
        self.limits = RunnerLimits(VOCABULARY, 1000, chunk, 1)
        self.store = ToyStore()
        self.seed = seed

    def forward(self, batch: Batch) -> HostLogits:
        (chunk,) = batch.chunks
        assert chunk.logits == "all"
        assert 0 < len(chunk.tokens) <= self.limits.prefill_chunk
        rows = []
        for token in chunk.tokens:
            self.store.held[chunk.sequence].append(int(token))
            rows.append(self.after(self.store.held[chunk.sequence]))
        return HostLogits(np.stack(rows))

    def after(self, tokens: Sequence[int]) -> np.ndarray:
        """Return the logits after `tokens`."""
        return np.random.default_rng([self.seed, *tokens]).normal(0, 1, VOCABULARY).astype(np.float32)


@pytest.mark.parametrize(("chunk", "other_chunk"), [(1, 1), (4, 7), (64, 3), (64, 64)])
def test_chunks_change_nothing_and_only_scored_tokens_count(chunk: int, other_chunk: int) -> None:
    random = np.random.default_rng(1)
    windows = [Window(tuple(random.integers(0, VOCABULARY, size).tolist()), scored) for size, scored in
               ((20, 1), (13, 9), (2, 1), (5, 4))]  # fmt: skip
    reference, other = ToyRunner(chunk), ToyRunner(other_chunk, seed=1)
    found = measure(reference, other, windows, SilentProgress())  # type: ignore[arg-type]

    meter = DivergenceMeter()
    for window in windows:
        for place in range(window.scored, len(window.tokens)):
            before = window.tokens[:place]
            meter.add(reference.after(before)[None], other.after(before)[None], np.array([window.tokens[place]]))
    assert found == meter.result()
    assert found.tokens == 19 + 4 + 1 + 1
    assert not reference.store.held and not other.store.held
