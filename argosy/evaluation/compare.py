"""An artefact and a reference go in; both read the same tokens in lockstep, and a report of how they differ comes out.

Logits are never kept: after each chunk of at most `prefill_chunk` tokens both models' (n, vocab) are reduced to four
numbers a position. The memory is that of two models, two KV caches and one chunk.
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
    """What a person asks for: a `text` (None: the bundled one), or `self_sample` tokens that the reference says."""

    artefact: Path
    text: Path | None = None
    self_sample: int | None = None
    reference: Path | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """Which artefact was measured."""

    directory: str
    model: str
    quantization: str
    rounding: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of an evaluation."""

    artefact: Subject
    reference: Subject
    text: str
    divergence: Divergence
    seconds: float


@dataclass(frozen=True, slots=True)
class Model:
    """An artefact that is ready to compute."""

    artefact: Artefact
    library: Library
    weights: Sequence[Any]
    vocabulary: Vocabulary

    def runner(self, context_window: int, max_batch: int = 1) -> LibraryRunner:
        """A runner with a KV cache for `max_batch` sequences of `context_window` tokens."""
        return LibraryRunner(self.library, self.weights, max_batch=max_batch, context_window=context_window)


def evaluate(wanted: Evaluation, progress: Progress) -> Report:
    """Measure `wanted.artefact` against the reference. Raises ArgosyError for whatever cannot be measured."""
    if wanted.text is not None and wanted.self_sample is not None:
        raise UsageError("`--text` and `--self-sample` exclude each other", "give one of them")
    text = None if wanted.self_sample is not None else read_text(wanted.text or BUNDLED_TEXT)
    artefact = open_artefact(wanted.artefact)
    artefact.library()  # refuse what cannot run here before a reference is built for it
    reference = open_artefact(wanted.reference) if wanted.reference else reference_for(artefact, progress)
    started = time.perf_counter()
    configure_threads(None)
    measured, true = _load(artefact), _load(reference)
    _check_comparable(true, measured)
    if text is None:
        assert wanted.self_sample is not None
        name, windows = "self-sampled", _sampled(true, measured, wanted.self_sample, progress)
    else:
        path = wanted.text or BUNDLED_TEXT
        name, windows = path.name, windows_of(text, true.vocabulary, _context(true, measured), str(path))
    longest = max(len(window.tokens) for window in windows)
    divergence = measure(true.runner(longest), measured.runner(longest), windows, progress)
    return Report(_subject(artefact), _subject(reference), name, divergence, time.perf_counter() - started)


def measure(
    reference: Runner, other: Runner, windows: Sequence[Window], progress: Progress
) -> Divergence:
    """Both runners read every window, chunk by chunk; their distributions are compared where tokens are scored."""
    meter = DivergenceMeter()
    chunk = min(reference.limits.prefill_chunk, other.limits.prefill_chunk)
    total, done = sum(len(window.tokens) - 1 for window in windows), 0
    for window in windows:
        tokens = np.asarray(window.tokens, dtype=np.int32)
        for runner in (reference, other):
            runner.store.add(_SEQUENCE)
        for first in range(0, len(tokens) - 1, chunk):
            following = tokens[first + 1 : first + 1 + chunk]
            piece = Batch([Chunk(_SEQUENCE, tokens[first : first + len(following)], "all")])
            true, measured = reference.forward(piece).numpy(), other.forward(piece).numpy()
            unscored = max(0, window.scored - 1 - first)
            meter.add(true[unscored:], measured[unscored:], following[unscored:])
            done += len(following)
            progress.report("compare", done, total)
        for runner in (reference, other):
            runner.store.remove(_SEQUENCE)
    return meter.result()


def _load(artefact: Artefact) -> Model:
    library = load_library(artefact)
    return Model(artefact, library, load_weights(artefact, library), open_vocabulary(artefact))


def _check_comparable(true: Model, measured: Model) -> None:
    """Both models must mean the same by a token id."""
    one, other = measured.artefact, true.artefact
    sizes = (measured.library.metadata.vocab_size, true.library.metadata.vocab_size)
    if sizes[0] != sizes[1]:
        raise UsageError(
            f"the vocabularies of `{one.directory}` and `{other.directory}` have {sizes[0]} and {sizes[1]} tokens",
            "compare artefacts of one model, or of models that share a tokenizer",
        )
    check_same_vocabulary(one, other, sizes[0])


def _context(*models: Model) -> int:
    return min(model.library.metadata.context_window_size for model in models)


def _sampled(true: Model, measured: Model, count: int, progress: Progress) -> list[Window]:
    """`count` tokens of the reference's own, in windows that both models can read."""
    prompt = max(len(true.vocabulary.chat_prompt(text)) for text in PROMPTS)
    context = _context(true, measured)
    if prompt >= context:
        raise UsageError(f"a context window of `{context}` tokens has no room for an answer", "build with a larger one")
    needed = min(context, prompt + -(-count // len(PROMPTS)))
    return sample_windows(true.runner(needed, max_batch=len(PROMPTS)), true.vocabulary, count, progress)


def _subject(artefact: Artefact) -> Subject:
    manifest = artefact.manifest
    assert manifest is not None and manifest.weights is not None, "an artefact with a library has a manifest"
    return Subject(str(artefact.directory), manifest.model, manifest.quantization, manifest.weights.rounding)
