"""Load an artefact once, for one conversation or for many."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from argosy.dist.artefact import Artefact, open_artefact
from argosy.dist.store import find_artefact
from argosy.runtime_bindings.chat.generation import GenerationConfig, model_defaults
from argosy.runtime_bindings.chat.shared_engine import SharedEngine, not_sent
from argosy.runtime_bindings.chat.stats import ChatStats
from argosy.runtime_bindings.chat.template import ChatTemplate, select_template
from argosy.runtime_bindings.chat.tokenizer import Tokenizer, load_tokenizer
from argosy.runtime_bindings.engine.device import check_device
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.memory import memory_use
from argosy.runtime_bindings.engine.request import RequestStats
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads, limit_threads
from argosy.support.errors import RequestError, UsageError
from argosy.support.text import did_you_mean, one_line

if TYPE_CHECKING:
    from typing_extensions import Never


class LoadedModel:
    """A model in memory: its artefact, tokenizer, chat template, and an engine over its library and weights.

    Make as many `ChatModule`s over one as there are conversations; they may be used in different threads. It is closed
    as a context manager, by `close`, or when nobody holds it any more.
    """

    def __init__(
        self, artefact: Artefact, tokenizer: Tokenizer, runner: LibraryRunner, threads: int, load_seconds: float
    ) -> None:
        self.artefact = artefact
        self.tokenizer = tokenizer
        self.engine = SharedEngine(Engine(runner), prepare=partial(limit_threads, threads))
        self.default_config: GenerationConfig = model_defaults(artefact.config)
        self.threads = threads
        self.load_seconds = load_seconds
        self._loaded: LibraryRunner | None = runner

    def __repr__(self) -> str:
        state = f"a window of {self.context_window} tokens" if self._loaded and not self.engine.closed else "closed"
        return f"<LoadedModel {self.artefact.name}, {state}>"

    __reduce__ = not_sent

    def close(self, unless_shared: bool = False) -> None:
        """End all answers with the reason "cancelled", and free weights and KV cache; with `unless_shared` only if no
        conversation is open."""
        self.engine.close(unless_shared)
        if self.engine.closed:
            self._loaded = None

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str],
        device: str = "cpu",
        *,
        threads: int | None = None,
        target: str | None = None,
        context_window_size: int | None = None,
        max_batch: int = 1,
        cache_packed: bool = False,
        **unknown: Never,
    ) -> LoadedModel:
        """Load an artefact, of which `model` is the name or the directory.

        `target` chooses one of its libraries; by default it is the one that suits this machine best.
        `context_window_size` may be smaller than the model was built for, to save memory. Up to `max_batch` answers
        are computed together, and the KV cache holds a full context window for each of them; further answers wait.
        Rounding may then make an answer differ from the one that is computed alone. Conversations that are not
        answering keep their part of the cache until an answer needs the room.

        `cache_packed` keeps weights that the library needs in another layout beside the artefact, in that layout, for
        the next load; a Python warning says why if they cannot be kept.

        Raises TargetError for a device that this runtime does not drive, ArtefactError for an artefact that cannot be
        used here, UsageError for an option out of its range.
        """
        check_options(unknown, LoadedModel.load)
        for name, value in (("device", device), ("target", target)):
            if not isinstance(value, str) and (name == "device" or value is not None):
                raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be a name")
        check_device(device)
        started = time.perf_counter()
        artefact = open_artefact(artefact_directory(model))
        tokenizer = load_tokenizer(artefact)
        count = configure_threads(threads)
        library = load_library(artefact, target, device)
        metadata = library.metadata
        if context_window_size is not None:
            _check_range("context_window_size", context_window_size, 2, metadata.context_window_size)
        _check_range("max_batch", max_batch, 1, metadata.max_batch_size)
        weights = load_weights(artefact, library, cache_packed)
        runner = LibraryRunner(library, weights, max_batch=max_batch, context_window=context_window_size)
        return cls(artefact, tokenizer, runner, count, time.perf_counter() - started)

    @property
    def _runner(self) -> LibraryRunner:
        if self._loaded is None or self.engine.closed:
            self._loaded = None  # the last conversation may have closed the engine
            raise RequestError(f"`{self.artefact.name}` is closed", "load it again")
        return self._loaded

    @property
    def context_window(self) -> int:
        """The longest conversation with its answer, in tokens."""
        return self._runner.limits.context_window

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one. ArtefactError if that cannot be used."""
        source = select_template(self.tokenizer.config.get("chat_template"))
        return None if source is None else ChatTemplate(source, self.tokenizer.special_tokens)

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens with which the model ends its answers."""
        named = self.tokenizer.id_of(self.tokenizer.special_tokens.get("eos_token", ""))
        return frozenset(self.artefact.config.eos_token_ids) | (frozenset() if named is None else {named})

    def encode_text(self, text: str) -> list[int]:
        """Encode a text to continue; an empty one becomes the token that begins a text."""
        tokens = self.tokenizer.encode(text, add_special_tokens=True)
        if tokens:
            return tokens
        bos = self.artefact.config.bos_token_id
        if bos is None:
            raise RequestError(
                "`prompt` is empty, and this model has no token that begins a text", "give it at least one word"
            )
        return [bos]

    def stats(self, answer: RequestStats, context_tokens: int) -> ChatStats:
        """Return the figures of this model and process, with those of an answer and its conversation."""
        runner = self._runner
        library = runner.library
        return ChatStats(
            answer, memory_use(), runner.weight_bytes, runner.kv_bytes, context_tokens, self.context_window,
            self.load_seconds, self.threads, library.file, library.target, library.metadata.activations,
            library.metadata.kv_dtype,
        )  # fmt: skip


def loaded_model(model: LoadedModel | str | os.PathLike[str], **options: Any) -> LoadedModel:
    """Return a loaded model as it is, and load one by its name or directory with `options`.

    Raises UsageError if `options` are set, other than to their defaults, for a model that is loaded.
    """
    if not isinstance(model, LoadedModel):
        return LoadedModel.load(model, **options)
    defaults = {"device": "cpu", "cache_packed": False}
    name = next((name for name, value in options.items() if value != defaults.get(name)), None)
    if name is not None:
        raise UsageError(f"`{name}` cannot be set for a model that is loaded", f"LoadedModel.load(..., {name}=...)")
    return model


def check_options(unknown: Mapping[str, object], function: Callable[..., object]) -> None:
    """Raise UsageError for the first argument that `function` does not have."""
    for name in unknown:
        known = [known for known in inspect.signature(function).parameters if known not in ("self", "unknown")]
        raise UsageError(f"`{one_line(name)}` is not an option of a model", did_you_mean(name, known))


def _check_range(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        allowed = f"it must be from {low} to {high}, for which the model was built"
        raise UsageError(f"`{name}={value!r}` is not allowed, {allowed}")


def artefact_directory(model: object) -> Path:
    """Return the directory of an artefact, given that or a name that `find_artefact` knows."""
    if not isinstance(model, str | os.PathLike) or not os.fspath(model):
        raise UsageError(
            f"`{one_line(model)}` is not a model, it must be the name or the directory of an artefact, or a LoadedModel"
        )
    return find_artefact(os.fsdecode(model))
