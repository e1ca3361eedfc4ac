"""Hold a conversation with a model, and stream its answers."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, overload

from argosy.runtime_bindings.chat.answer import Answer, Reply
from argosy.runtime_bindings.chat.answer_stream import AnswerStream
from argosy.runtime_bindings.chat.claim import Claim
from argosy.runtime_bindings.chat.conversation import Conversation
from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.messages import Message
from argosy.runtime_bindings.chat.model import LoadedModel, check_options, loaded_model
from argosy.runtime_bindings.chat.settings import Generation, GenerationSettings, configuration
from argosy.runtime_bindings.chat.shared_engine import PATIENCE_OF_FINALISERS, SharedEngine, not_sent
from argosy.runtime_bindings.chat.stats import ChatStats
from argosy.runtime_bindings.chat.stream import ProgressCallback, check_callback, deliver, stop_callback
from argosy.runtime_bindings.engine.request import Request, RequestStats
from argosy.support.errors import RequestError

if TYPE_CHECKING:
    from typing_extensions import Never, Unpack

Prompt = str | Sequence[Mapping[str, Any]]


class ChatModule:
    """A conversation with a model.

    A question in text adds a turn to the conversation; a list of messages replaces the conversation. Tokens whose keys
    and values are still in the KV cache are not computed again. A model without a chat template, or with `chat=False`,
    only continues texts: `completes_only` is true, and every prompt stands alone.

    Any thread may make any call. Conversations that share a LoadedModel may answer at the same time; one conversation
    gives one answer at a time: meanwhile `generate`, `stream` and `reset_chat` raise RequestError at once. `cancel`,
    `stats`, `messages` and `close` may be used at any time, also by a callback.

    A conversation keeps its part of the KV cache until it is closed, as a context manager or by `close`, or garbage
    collected.
    """

    def __init__(
        self,
        model: LoadedModel | str | os.PathLike[str],
        device: str = "cpu",
        threads: int | None = None,
        *,
        target: str | None = None,
        system: str | None = None,
        chat: bool = True,
        context_window_size: int | None = None,
        cache_packed: bool = False,
        **unknown: Never,
    ) -> None:
        """Begin a conversation, with `system` as its system prompt.

        `model` is a loaded model, or the name or directory of an artefact to load one from. In the latter case,
        `device`, `threads`, `target`, `context_window_size` and `cache_packed` are passed to `LoadedModel.load`, which
        lists the errors.
        """
        check_options(unknown, ChatModule.__init__)
        self._owns_model = not isinstance(model, LoadedModel)
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
        self._claim = Claim()
        self._sequence = self.model.engine.open_sequence()
        self._release = weakref.finalize(
            self, self.model.engine.close_sequence, self._sequence, PATIENCE_OF_FINALISERS
        )
        self._release.atexit = False

    def __repr__(self) -> str:
        if not self._release.alive:
            return f"<ChatModule {self.artefact.name}, closed>"
        kind = "completes texts" if self.completes_only else f"{len(self.messages)} messages"
        return f"<ChatModule {self.artefact.name}, {kind}{', answering' if self._claim.holder else ''}>"

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
        **settings: Unpack[GenerationSettings],
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
        **settings: Unpack[GenerationSettings],
    ) -> AnswerStream: ...

    def generate(
        self,
        prompt: Prompt,
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: bool = False,
        template_variables: Mapping[str, Any] | None = None,
        **settings: Unpack[GenerationSettings],
    ) -> str | AnswerStream:
        """Return the answer or, with `stream`, an iterator over its pieces. Afterwards `last` is its full record.

        Settings are keyword arguments, such as `temperature=0.2` or `stop="\\n"`; the others are those of
        `generation_config`, which is a whole configuration, or a mapping of the settings that differ from
        `default_config`. `template_variables` are passed to the chat template, such as `tools` or `enable_thinking`.

        `cancel()`, from a signal handler or another thread, ends the answer between two tokens with the reason
        "cancelled", and so does closing the iterator; the conversation keeps the text up to there. After an exception
        it is what it was before. Raises RequestError and ContextFullError for what the model cannot do.
        """
        check_callback(progress_callback)
        if stream and progress_callback is not None:
            raise RequestError("`progress_callback` and `stream` exclude each other", "leave one of them out")
        try:
            answer = self.stream(prompt, generation_config, template_variables=template_variables, **settings)
        except BaseException:
            stop_callback(progress_callback)
            raise
        if stream:
            return answer
        deliver(answer, progress_callback)
        return answer.reply.text

    def stream(
        self,
        prompt: Prompt,
        generation_config: Generation = None,
        *,
        template_variables: Mapping[str, Any] | None = None,
        **settings: Unpack[GenerationSettings],
    ) -> AnswerStream:
        """Return the answer as an iterator, for `for` and for `async for`; the arguments are those of `generate`."""
        config = configuration(generation_config, self.default_config, settings)
        return AnswerStream(_Turn(self, prompt, config, {} if template_variables is None else template_variables))

    async def agenerate(
        self,
        prompt: Prompt,
        generation_config: Generation = None,
        *,
        template_variables: Mapping[str, Any] | None = None,
        **settings: Unpack[GenerationSettings],
    ) -> str:
        """Return the answer without blocking the event loop; the arguments are those of `generate`.

        Cancelling the task ends the answer, and the conversation keeps its text up to there.
        """
        answer = self.stream(prompt, generation_config, template_variables=template_variables, **settings)
        async for _ in answer:
            pass
        return answer.reply.text

    def cancel(self) -> None:
        """End the answer under way after its current token. Without one, do nothing."""
        answer = self._claim.holder
        if isinstance(answer, AnswerStream):
            answer.cancel()

    def reset_chat(self, system: str | None = None) -> None:
        """Forget the conversation. `system` sets a new system prompt, and removes it if empty; None keeps the one that
        was last set."""
        self._check_open()
        change = _Change()
        try:
            self._claim.take(change, self._busy)
            if self._conversation is not None:
                self._conversation.reset(system)
            self.last = None
        finally:
            self._claim.give_up(change)
        if self._conversation is None and system:
            raise RequestError(f"`{self.artefact.name}` has no chat template for a `system` prompt")

    def stats(self) -> ChatStats:
        """Return the figures of the last answer, and of memory. As a string they are one line."""
        self._check_open()
        last, used = self.last, self.model.engine.count_cached_tokens(self._sequence)
        return self.model.stats(RequestStats() if last is None else last.stats, used)

    __reduce__ = not_sent

    def close(self) -> None:
        """Cancel an answer under way, and give the conversation's part of the KV cache back.

        A model that was loaded for this conversation is closed as well, unless another conversation uses it.
        """
        if self._release.detach() is not None:
            self.model.engine.close_sequence(self._sequence)
        if self._owns_model:
            self.model.close(unless_shared=True)

    def __enter__(self) -> ChatModule:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- inside

    def _busy(self) -> RequestError:
        return RequestError(
            f"`{self.artefact.name}` is already answering in this conversation",
            "wait for that answer or close its iterator, or make another ChatModule over the same LoadedModel",
        )

    def _check_open(self) -> None:
        if not self._release.alive or self.model.engine.closed:
            raise RequestError(f"this conversation with `{self.artefact.name}` is closed", "make another ChatModule")

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
        self.model.engine.check(request)
        return messages, request


class _Change:
    """Holds the claim while a conversation is changed."""


class _Turn:
    """A question to a `ChatModule`, prepared when it is put, and again if the conversation has changed until its
    answer begins."""

    def __init__(
        self, chat: ChatModule, prompt: Prompt, config: GenerationConfig, variables: Mapping[str, Any]
    ) -> None:
        chat._check_open()
        if chat._claim.holder is not None:
            raise chat._busy()
        self._chat = chat
        self._prompt, self._config, self._variables = prompt, config, variables
        self._after = self._turns()
        self._messages, self._request = chat._prepare(prompt, config, variables)

    @property
    def engine(self) -> SharedEngine:
        return self._chat.model.engine

    @property
    def model_name(self) -> str:
        return self._chat.artefact.name

    def begin(self, stream: AnswerStream) -> tuple[Request, Answer]:
        chat = self._chat
        chat._check_open()
        chat._claim.take(stream, chat._busy)
        if self._turns() is not self._after:
            self._messages, self._request = chat._prepare(self._prompt, self._config, self._variables)
        return self._request, Answer(chat.tokenizer, self._config, len(self._request.prompt))

    def conclude(self, answer: Answer) -> None:
        if answer.error is not None:
            raise answer.error
        self._chat.last = answer.reply
        if self._chat._conversation is not None:
            self._chat._conversation.commit(self._messages, answer.text)

    def release(self, stream: AnswerStream) -> None:
        self._chat._claim.give_up(stream)

    def _turns(self) -> list[Message] | None:
        """The list of the conversation's turns, which every change replaces by another list."""
        return None if self._chat._conversation is None else self._chat._conversation.turns
