"""Hold a conversation with a model, and stream its answers."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

from argosy.runtime_bindings.chat.answer import Answer, Reply
from argosy.runtime_bindings.chat.conversation import Conversation
from argosy.runtime_bindings.chat.generation import GenerationConfig, resolve
from argosy.runtime_bindings.chat.messages import Message
from argosy.runtime_bindings.chat.model import LoadedModel, loaded_model
from argosy.runtime_bindings.chat.stats import ChatStats
from argosy.runtime_bindings.chat.stream import ProgressCallback, deliver
from argosy.runtime_bindings.engine.request import Request, RequestStats
from argosy.support.errors import RequestError

Generation = GenerationConfig | Mapping[str, Any] | None
Prompt = str | Sequence[Mapping[str, Any]]


class ChatModule:
    """A conversation with a model.

    `generate` with a text adds a turn to the conversation; with a list of messages it replaces the conversation.
    Tokens whose keys and values are still in the KV cache are not computed again. A model without a chat template, or
    with `chat=False`, only continues texts: `completes_only` is true, and every prompt stands alone.

    Conversations that share a LoadedModel may answer at the same time, in different threads. One conversation gives
    one answer at a time: `generate` and `reset_chat` raise RequestError while it does. `cancel`, `stats` and
    `messages` may be used at any time, also by a callback.

    A conversation keeps its part of the KV cache until it is closed, as a context manager or by `close`, or garbage
    collected.
    """

    def __init__(
        self,
        model: LoadedModel | str | Path,
        device: str = "cpu",
        threads: int | None = None,
        *,
        target: str | None = None,
        system: str | None = None,
        chat: bool = True,
        context_window_size: int | None = None,
        cache_packed: bool = False,
    ) -> None:
        """Begin a conversation, with `system` as its system prompt.

        `model` is a loaded model, or an artefact directory to load one from. In the latter case, `device`, `threads`,
        `target`, `context_window_size` and `cache_packed` are passed to `LoadedModel.load`, which lists the errors.
        """
        self.model = loaded_model(
            model, device=device, threads=threads, target=target, context_window_size=context_window_size,
            cache_packed=cache_packed,
        )  # fmt: skip
        self.artefact = self.model.artefact
        self.tokenizer = self.model.tokenizer
        self.default_config = self.model.default_config
        self.last: Reply | None = None
        template = self.model.template if chat else None
        self._conversation = None if template is None else Conversation(self.tokenizer, template, system)
        if self._conversation is None and system:
            raise RequestError(f"`{self.artefact.name}` has no chat template for a `system` prompt", "leave it out")
        self._answering = threading.Lock()
        self._cancelled = False
        self._sequence = self.model.engine.open_sequence()
        self._release = weakref.finalize(self, self.model.engine.close_sequence, self._sequence)
        self._release.atexit = False

    @property
    def completes_only(self) -> bool:
        """Whether the model continues texts and does not chat: it has no chat template, or `chat` is false."""
        return self._conversation is None

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, without the system prompt; empty for a model that only completes."""
        return [] if self._conversation is None else [*self._conversation.turns]

    @property
    def stop_tokens(self) -> frozenset[int]:
        """The tokens with which the model ends its answers."""
        return self.model.stop_tokens

    @overload
    def generate(
        self,
        prompt: Prompt,
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: Literal[False] = False,
        template_variables: Mapping[str, Any] | None = None,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: Prompt,
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: Literal[True],
        template_variables: Mapping[str, Any] | None = None,
    ) -> Iterator[str]: ...

    def generate(
        self,
        prompt: Prompt,
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: bool = False,
        template_variables: Mapping[str, Any] | None = None,
    ) -> str | Iterator[str]:
        """Return the answer or, with `stream`, an iterator over its pieces. Afterwards `last` is its full record.

        `generation_config` is a whole configuration, or a mapping of the settings that differ from `default_config`.
        `template_variables` are passed to the chat template, such as `tools` or `enable_thinking`.

        `cancel()`, from a signal handler or another thread, ends the answer between two tokens with the reason
        "cancelled", and so does closing the iterator; the conversation keeps the text up to there. After an exception
        it is what it was before. Raises RequestError and ContextFullError for what the model cannot do.
        """
        with self._exclusive():
            config = resolve(generation_config, self.default_config)
            messages, request = self._prepare(prompt, config, template_variables or {})
        answer = Answer(self.tokenizer, config, len(request.prompt))
        pieces = self._pieces(messages, request, answer)
        if stream:
            if progress_callback is not None:
                raise RequestError("`progress_callback` and `stream` exclude each other", "leave one of them out")
            return pieces
        deliver(pieces, progress_callback)
        return answer.reply.text

    def cancel(self) -> None:
        """End the answer under way after its current token. Without one, do nothing."""
        self._cancelled = True

    def reset_chat(self, system: str | None = None) -> None:
        """Forget the conversation. `system` sets a new system prompt, and removes it if empty; None keeps the one that
        was last set."""
        with self._exclusive():
            if self._conversation is not None:
                self._conversation.reset(system)
            self.last = None
        if self._conversation is None and system:
            raise RequestError(f"`{self.artefact.name}` has no chat template for a `system` prompt")

    def stats(self) -> ChatStats:
        """Return the figures of the last answer, and of memory. As a string they are one line."""
        self._check_open()
        last, used = self.last, self.model.engine.count_cached_tokens(self._sequence)
        return self.model.stats(RequestStats() if last is None else last.stats, used)

    def close(self) -> None:
        """Cancel an answer under way, and give the conversation's part of the KV cache back."""
        self._release()

    def __enter__(self) -> ChatModule:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- inside

    def _prepare(
        self, prompt: Prompt, config: GenerationConfig, variables: Mapping[str, Any]
    ) -> tuple[list[Message], Request]:
        """Return the conversation with the new question, empty for a plain completion, and the request to compute."""
        messages: list[Message] = []
        protect = 0
        if self._conversation is not None:
            talk = self._conversation
            messages = talk.with_question(prompt) if isinstance(prompt, str) else talk.check(prompt)
            tokens, protect = self._conversation.prompt(messages, variables, config, self.model.context_window)
        elif isinstance(prompt, str):
            tokens = self.model.encode_text(prompt)
        else:
            raise RequestError(f"`{self.artefact.name}` has no chat template and takes a text, not messages")
        request = Request(
            prompt=tokens, sampling=config, max_tokens=config.max_tokens,
            stop_tokens=frozenset() if config.ignore_eos else self.stop_tokens,
            on_context_full=config.on_context_full, protect=protect, sequence=self._sequence,
        )  # fmt: skip
        return messages, request

    def _pieces(self, messages: list[Message], request: Request, answer: Answer) -> Generator[str, None, None]:
        """Compute the answer, and yield its text as it becomes certain, in pieces that may be empty."""
        with self._exclusive():
            self._cancelled = False
            try:
                yield from self.model.stream(request, answer, lambda: self._cancelled)
            except GeneratorExit:  # the reader has enough
                self._conclude(messages, answer)
                raise
            self._conclude(messages, answer)

    def _conclude(self, messages: list[Message], answer: Answer) -> None:
        """Record the answer as `last` and in the conversation, or raise the error that ended it."""
        if answer.error is not None:
            raise answer.error
        self.last = answer.reply
        if self._conversation is not None:
            self._conversation.commit(messages, self.last.text)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Claim the conversation for one answer or change. Raises RequestError if it is claimed already."""
        self._check_open()
        if not self._answering.acquire(blocking=False):
            raise RequestError(
                f"`{self.artefact.name}` is already answering in this conversation",
                "wait for that answer or close its iterator, or make another ChatModule over the same LoadedModel",
            )
        try:
            yield
        finally:
            self._answering.release()

    def _check_open(self) -> None:
        if not self._release.alive:
            raise RequestError(f"this conversation with `{self.artefact.name}` is closed", "make another ChatModule")
