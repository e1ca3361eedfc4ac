"""Compare an artefact with a reference: both read the same tokens in lockstep.

Logits are never kept: after every chunk of at most `prefill_chunk` tokens both models' logits (n, vocab) are reduced to
four numbers per position. Memory holds two models, two KV caches and one chunk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from argosy.dist.artefact import Artefact, open_artefact
from argosy.evaluation.divergence import Divergence, DivergenceMeter
from argosy.evaluation.reference import reference_for
from argosy.evaluation.self_sample import PROMPTS, sample_windows
from argosy.evaluation.texts import BUNDLED_TEXT, Window, read_text, windows_of
from argosy.evaluation.vocabulary import Vocabulary, check_same_vocabulary, open_vocabulary
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import Library, load_library, load_weights
from argosy.runtime_bindings.engine.runner import Runner
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads
from argosy.support.errors import UsageError
from argosy.support.progress import Progress

_SEQUENCE = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What to evaluate: on a `text` (None: the bundled one), or on `self_sample` tokens sampled from the reference."""

    artefact: Path
    text: Path | None = None
    self_sample: int | None = None
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class ArtefactSummary:
    """An artefact as a report names it."""

    directory: str
    model: str
    quantization: str
    rounding: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of an evaluation."""

    artefact: ArtefactSummary
    reference: ArtefactSummary
    text: str
    divergence: Divergence
    seconds: float


@dataclass(frozen=True, slots=True)
class EvaluatedModel:
    """A loaded artefact."""

    artefact: Artefact
    library: Library
    weights: Sequence[Any]
    vocabulary: Vocabulary

    def runner(self, context_window: int, max_batch: int = 1) -> LibraryRunner:
        """Make a runner with a KV cache for `max_batch` sequences of `context_window` tokens."""
        return LibraryRunner(self.library, self.weights, max_batch=max_batch, context_window=context_window)


def evaluate(request: Evaluation, progress: Progress) -> Report:
    """Compare `request.artefact` with the reference. Raises ArgosyError for anything that cannot be measured."""
    if request.text is not None and request.self_sample is not None:
        raise UsageError("`--text` and `--self-sample` exclude each other", "give one of them")
    text = None if request.self_sample is not None else read_text(request.text or BUNDLED_TEXT)
    artefact = open_artefact(request.artefact)
    artefact.library()  # refuse an artefact that cannot run here before building a reference
    reference = open_artefact(request.reference) if request.reference else reference_for(artefact, progress)
    started = time.perf_counter()
    configure_threads(None)
    measured, true = _load(artefact), _load(reference)
    _check_comparable(true, measured)
    if text is None:
        assert request.self_sample is not None
        name, windows = "self-sampled", _sampled(true, measured, request.self_sample, progress)
    else:
        path = request.text or BUNDLED_TEXT
        name, windows = path.name, windows_of(text, true.vocabulary, _context(true, measured), str(path))
    longest = max(len(window.tokens) for window in windows)
    divergence = measure(true.runner(longest), measured.runner(longest), windows, progress)
    return Report(_summary(artefact), _summary(reference), name, divergence, time.perf_counter() - started)


def measure(
    reference: Runner, other: Runner, windows: Sequence[Window], progress: Progress
) -> Divergence:
    """Let both runners read all windows, chunk by chunk, and compare their distributions where tokens are scored."""
    meter = DivergenceMeter()
    chunk = min(reference.limits.prefill_chunk, other.limits.prefill_chunk)
    total, done = sum(len(window.tokens) - 1 for window in windows), 0
    for window in windows:
        for runner in (reference, other):
            runner.store.add(_SEQUENCE)
        for first in range(0, len(window.tokens) - 1, chunk):
            following = np.asarray(window.tokens[first + 1 : first + 1 + chunk], dtype=np.int32)
            batch = Batch([Chunk(_SEQUENCE, window.tokens[first : first + len(following)], "all")])
            true, measured = reference.forward(batch).numpy(), other.forward(batch).numpy()
            unscored = max(0, window.scored - 1 - first)
            meter.add(true[unscored:], measured[unscored:], following[unscored:])
            done += len(following)
            progress.report("compare", done, total)
        for runner in (reference, other):
            runner.store.remove(_SEQUENCE)
    return meter.result()


def _load(artefact: Artefact) -> EvaluatedModel:
    library = load_library(artefact)
    return EvaluatedModel(artefact, library, load_weights(artefact, library), open_vocabulary(artefact))


def _check_comparable(true: EvaluatedModel, measured: EvaluatedModel) -> None:
    """Raise UsageError unless a token id means the same to both models."""
    one, other = measured.artefact, true.artefact
    sizes = (measured.library.metadata.vocab_size, true.library.metadata.vocab_size)
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"the vocabularies of `{one.directory}` and `{other.directory}` have {sizes[0]} and {sizes[1]} tokens",
            "compare artefacts of one model, or of models that share a tokenizer",
        )
    check_same_vocabulary(one, other, sizes[0])


def _context(*models: EvaluatedModel) -> int:
    return min(model.library.metadata.context_window_size for model in models)


def _sampled(true: EvaluatedModel, measured: EvaluatedModel, count: int, progress: Progress) -> list[Window]:
    """Sample `count` tokens from the reference, in windows that fit both models."""
    prompt = max(len(true.vocabulary.chat_prompt(text)) for text in PROMPTS)
    context = _context(true, measured)
    if prompt >= context:
        raise UsageError(f"a context window of `{context}` tokens has no room for an answer", "build with a larger one")
    needed = min(context, prompt + -(-count // len(PROMPTS)))
    return sample_windows(true.runner(needed, max_batch=len(PROMPTS)), true.vocabulary, count, progress)


def _summary(artefact: Artefact) -> ArtefactSummary:
    manifest = artefact.manifest
    assert manifest is not None and manifest.weights is not None, "an artefact with a library has a manifest"
    return ArtefactSummary(str(artefact.directory), manifest.model, manifest.quantization, manifest.weights.rounding)
