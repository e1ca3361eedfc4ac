"""An artefact directory goes in; a model comes out that streams its answers and remembers the conversation."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from argosy.dist.artefact import Artefact, open_artefact
from argosy.runtime_bindings.chat.conversation import Conversation
from argosy.runtime_bindings.chat.generation import GenerationConfig, model_defaults, resolve
from argosy.runtime_bindings.chat.stats import ChatStats
from argosy.runtime_bindings.chat.stops import StopStrings
from argosy.runtime_bindings.chat.stream import ProgressCallback, checked_interval
from argosy.runtime_bindings.chat.template import ChatTemplate, Message, check_messages, select_template
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.memory import memory_use
from argosy.runtime_bindings.engine.request import Event, FinishReason, Request, RequestStats
from argosy.runtime_bindings.engine.sampler import TokenLogprob
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads
from argosy.support.errors import RequestError, TargetError, UsageError

Generation = GenerationConfig | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it ended. `tokens` are those of `text` and of a stop string, if one ended it; `logprobs` one for
    each."""

    text: str
    finish_reason: FinishReason
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    prompt_tokens: int
    stats: RequestStats


class ChatModule:
    """A model with its conversation.

    `generate` with a text adds a turn to the conversation; with a list of messages it replaces the conversation. What
    the KV cache has of it already is not computed again. A model without a chat template, or with `chat=False`, only
    continues texts: `completes_only` says so, and every prompt stands alone.

    Not for several threads at once, but for `cancel`.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "cpu",
        threads: int | None = None,
        *,
        target: str | None = None,
        system: str | None = None,
        chat: bool = True,
        context_window_size: int | None = None,
        cache_packed: bool = False,
    ) -> None:
        """`model`: an artefact directory. `target`: which of its libraries, by default the one that suits this
        machine best. `context_window_size`: less than it was built for, to save memory. `cache_packed`: weights that
        the library wants in another layout are kept in that layout beside the artefact, for the next load; where that
        cannot be, there is a Python warning. ArtefactError where something is amiss."""
        if device != "cpu":
            raise TargetError(f"this runtime does not drive the device `{device}`", 'use device="cpu"')
        started = time.perf_counter()
        self.artefact: Artefact = open_artefact(model)
        self.tokenizer = load_tokenizer(self.artefact)
        template = select_template(self.tokenizer.config.get("chat_template")) if chat else None
        self._threads = configure_threads(threads)
        library = load_library(self.artefact, target)
        _check_window(context_window_size, library.metadata.context_window_size)
        weights = load_weights(self.artefact, library, cache_packed)
        self._runner = LibraryRunner(library, weights, context_window=context_window_size)
        self._engine = Engine(self._runner)
        self._sequence = self._engine.open_sequence()
        self._conversation: Conversation | None = None
        if template is not None:
            chat_template = ChatTemplate(template, self.tokenizer.special_tokens)
            self._conversation = Conversation(self.tokenizer, chat_template, system)
        elif system:
            raise RequestError(f"`{self.artefact.name}` has no chat template, so `system` has no place", "leave it out")
        self.default_config = model_defaults(self.artefact.config)
        self.last: Reply | None = None
        self._cancelled = False
        self._load_seconds = time.perf_counter() - started

    # -- talking

    @property
    def completes_only(self) -> bool:
        """Whether the model continues texts and does not chat: it has no chat template, or `chat=False` was asked
        for."""
        return self._conversation is None

    @property
    def messages(self) -> list[Message]:
        """The conversation so far, without the system prompt; empty for a model that only completes."""
        return [] if self._conversation is None else [*self._conversation.turns]

    @overload
    def generate(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: Literal[False] = False,
        template_variables: Mapping[str, Any] | None = None,
    ) -> str: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: Literal[True],
        template_variables: Mapping[str, Any] | None = None,
    ) -> Iterator[str]: ...

    def generate(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        progress_callback: ProgressCallback | None = None,
        generation_config: Generation = None,
        *,
        stream: bool = False,
        template_variables: Mapping[str, Any] | None = None,
    ) -> str | Iterator[str]:
        """The answer; with `stream`, an iterator over its pieces. `last` holds it afterwards with all that is known
        of it.

        `generation_config`: a whole one, or a table of what differs from `default_config`. `template_variables` go to
        the chat template, such as `tools` or `enable_thinking`. `cancel()`, from a signal handler or another thread,
        ends the answer between two tokens with reason "cancelled"; what was said until then stays in the
        conversation, as it does when the iterator is closed early. After an exception the conversation is as it was
        before. RequestError and ContextFullError for what cannot be done.
        """
        config = resolve(generation_config, self.default_config)
        messages, request = self._prepare(prompt, config, template_variables or {})
        pieces = self._pieces(messages, request, config)
        if stream:
            if progress_callback is not None:
                raise RequestError("`progress_callback` and `stream` exclude each other", "leave one of them out")
            return pieces
        _report(pieces, progress_callback)
        assert self.last is not None
        return self.last.text

    def cancel(self) -> None:
        """Ends the answer that is being generated, after the present token; nothing happens if there is none."""
        self._cancelled = True

    def reset_chat(self, system: str | None = None) -> None:
        """Forgets the conversation. `system`: a new system prompt; None keeps the last one set, an empty one
        removes it."""
        self.last = None
        if self._conversation is None:
            if system:
                raise RequestError(f"`{self.artefact.name}` has no chat template, so `system` has no place")
            return
        self._conversation.reset(system)

    def stats(self) -> ChatStats:
        """Figures of the last answer, and of memory; as text, one line."""
        answer = RequestStats() if self.last is None else self.last.stats
        used = len(self._engine.cached_tokens(self._sequence))
        library = self._runner.library
        return ChatStats(
            answer, memory_use(), self._runner.weight_bytes, self._runner.kv_bytes, used,
            self._runner.limits.context_window, self._load_seconds, self._threads,
            library.file, library.target, library.metadata.activations, library.metadata.kv_dtype,
        )  # fmt: skip

    # -- inside

    def _prepare(
        self, prompt: str | Sequence[Mapping[str, Any]], config: GenerationConfig, variables: Mapping[str, Any]
    ) -> tuple[list[Message], Request]:
        """What to compute. The messages are empty for a plain completion."""
        messages: list[Message] = []
        protect = 0
        if self._conversation is None:
            if not isinstance(prompt, str):
                raise RequestError(f"`{self.artefact.name}` has no chat template and takes a text, not messages")
            tokens = self.tokenizer.encode(prompt, add_special_tokens=True) or self._beginning()
        else:
            of = self._conversation
            messages = of.with_question(prompt) if isinstance(prompt, str) else check_messages(prompt)
            if config.on_context_full == "slide":
                window = self._runner.limits.context_window
                tokens = of.fitted(messages, variables, window, config.max_tokens)
                protect = min(of.protected(messages, tokens, variables), window // 2)
            else:
                tokens = of.tokens(messages, variables)
        stops = frozenset() if config.ignore_eos else self.stop_tokens
        request = Request(
            prompt=tokens, sampling=config, max_tokens=config.max_tokens, stop_tokens=stops,
            on_context_full=config.on_context_full, protect=protect, sequence=self._sequence,
        )  # fmt: skip
        return messages, request

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Tokens with which the model ends its answers."""
        named = self.tokenizer.id_of(self.tokenizer.special_tokens.get("eos_token", ""))
        return frozenset(self.artefact.config.eos_token_ids) | (frozenset() if named is None else {named})

    def _beginning(self) -> list[int]:
        """The prompt for an empty text: the token that begins a text."""
        bos = self.artefact.config.bos_token_id
        if bos is None:
            raise RequestError("`prompt` is empty, and this model has no token that begins a text", "give it a word")
        return [bos]

    def _pieces(
        self, messages: list[Message], request: Request, config: GenerationConfig
    ) -> Generator[str, None, None]:
        """Runs the engine until the request ends; the pieces of text as they get certain, possibly empty ones."""
        self._cancelled = False
        identity = self._engine.add(request)
        detokenizer, stops = self.tokenizer.detokenizer(), StopStrings(config.stop)
        events: list[Event] = []
        text = ""
        ended: Event | None = None
        try:
            while ended is None:
                for event in [self._engine.cancel(identity)] if self._cancelled else self._engine.step():
                    assert event is not None and event.request == identity
                    events.append(event)
                    if event.token is not None and event.finish != "stop":
                        piece = stops.add(detokenizer.add(event.token))
                        text += piece
                        yield piece
                    if stops.found is not None and event.finish is None:
                        event = self._engine.cancel(identity) or event
                    ended = event if event.finish is not None else None
            piece = stops.add(detokenizer.finish()) + stops.finish()
            text += piece
            yield piece
        except GeneratorExit:
            ended = ended or self._engine.cancel(identity)
            self._conclude(messages, request, events, ended, stops, text)
            raise
        except BaseException:
            self._engine.cancel(identity)
            raise
        self._conclude(messages, request, events, ended, stops, text)

    def _conclude(
        self,
        messages: list[Message],
        request: Request,
        events: list[Event],
        ended: Event | None,
        stops: StopStrings,
        text: str,
    ) -> None:
        """Remembers the answer as `last` and in the conversation; raises the error that ended it, if one did."""
        assert ended is not None and ended.finish is not None and ended.stats is not None
        if ended.error is not None:
            raise ended.error
        said = [event for event in events if event.token is not None and event.finish != "stop"]
        self.last = Reply(
            text,
            "stop" if stops.found is not None else ended.finish,
            tuple(event.token for event in said if event.token is not None),
            tuple(event.logprob for event in said if event.logprob is not None),
            len(request.prompt),
            ended.stats,
        )
        if self._conversation is not None:
            self._conversation.commit(messages, text)


def load_tokenizer(artefact: Artefact) -> Tokenizer:
    """The tokenizer of an artefact; its `tokenizer_config.json` and `chat_template.jinja` are used where it has
    them."""
    names = artefact.config.tokenizer_files
    config = artefact.tokenizer_path("tokenizer_config.json") if "tokenizer_config.json" in names else None
    tokenizer = Tokenizer.load(artefact.tokenizer_path("tokenizer.json"), config)
    if "chat_template.jinja" in names:
        tokenizer.config["chat_template"] = artefact.tokenizer_path("chat_template.jinja").read_text(encoding="utf-8")
    return tokenizer


def _check_window(wanted: int | None, built: int) -> None:
    if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or not 2 <= wanted <= built):
        allowed = f"it must be from 2 to {built}, for which the model was built"
        raise UsageError(f"`context_window_size={wanted!r}` is not allowed, {allowed}")


def _report(pieces: Generator[str, None, None], callback: ProgressCallback | None) -> None:
    """Passes pieces on to a callback, `callback_interval` tokens at a time; the last call says `stopped`, also after
    an error.

    An error of the callback itself is thrown into the generator, which cancels the request.
    """
    interval = 1 if callback is None else checked_interval(getattr(callback, "callback_interval", 1))
    gathered = ""
    try:
        for number, piece in enumerate(pieces, start=1):
            gathered += piece
            if callback is not None and gathered and number % interval == 0:
                gathered, ready = "", gathered
                callback(ready, False)
    except BaseException as error:
        with suppress(type(error)):
            pieces.throw(error)
        if callback is not None:
            with suppress(Exception):
                callback("", True)
        raise
    if callback is not None:
        callback(gathered, True)
