"""Turn the events of one request into text, and into a record of the finished answer."""

from __future__ import annotations

from dataclasses import dataclass

from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.stops import StopStrings
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.runtime_bindings.engine.request import Event, FinishReason, RequestStats
from argosy.runtime_bindings.engine.sampler import TokenLogprob
from argosy.support.errors import ArgosyError
from argosy.support.text import one_line


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer.

    `finish_reason` is "stop" at the model's own end or a stop string, "length" after `max_tokens`, "context" if the
    context window is full, or "cancelled". `tokens` are those of `text`, and of the stop string if one ended the
    answer. `logprobs` has an entry for every token if the configuration asked for them, and is empty otherwise.
    """

    text: str
    finish_reason: FinishReason
    tokens: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...]
    prompt_tokens: int
    stats: RequestStats

    def __repr__(self) -> str:
        text = repr(one_line(self.text))
        return f"Reply({text}, finish_reason={self.finish_reason!r}, {len(self.tokens)} tokens)"


class Answer:
    """An answer under way: its text as it becomes certain, and its tokens and log-probabilities.

    It makes no calls to an engine. The caller passes it every event of one request, and cancels the request once
    `stopped` is true: a stop string was found, and whatever follows is not part of the answer.
    """

    def __init__(self, tokenizer: Tokenizer, config: GenerationConfig, prompt_tokens: int) -> None:
        """`prompt_tokens`: the length of the prompt, for the record."""
        self._detokenizer = tokenizer.detokenizer()
        self._tokenizer = tokenizer
        self._stops = StopStrings(config.stop, tokenizer.hidden_texts if config.stop else ())
        self._stop_tokens = {token: stop for stop in config.stop for token in tokenizer.tokens_of(stop)}
        self._prompt_tokens = prompt_tokens
        self._pieces: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._last: Event | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found."""
        return self._stops.found is not None

    @property
    def ended(self) -> bool:
        """Whether the request has ended."""
        return self._last is not None

    def add(self, event: Event) -> str:
        """Return the text that `event` makes certain, which may be empty. The last event releases all that is left."""
        piece = ""
        if event.token is not None and event.finish != "stop":  # a stop token is not part of the answer
            self._tokens.append(event.token)
            if event.logprob is not None:
                self._logprobs.append(event.logprob)
            hidden, stop = self._tokenizer.hidden_text(event.token), self._stop_tokens.get(event.token)
            piece = self._stops.add(self._detokenizer.add(event.token), hidden, stop)
        if event.finish is not None:
            self._last = event
            piece += self._stops.add(self._detokenizer.finish()) + self._stops.finish()
        self._pieces.append(piece)
        return piece

    def close(self, event: Event) -> None:
        """End the answer with the text that `add` has returned; what is held back is dropped."""
        self._last = event

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    @property
    def error(self) -> ArgosyError | None:
        """The error that ended the answer, if one did."""
        return None if self._last is None else self._last.error

    @property
    def reply(self) -> Reply:
        """The record of the answer, which must have ended."""
        last = self._last
        assert last is not None and last.finish is not None and last.stats is not None, "the answer has not ended"
        return Reply(
            self.text,
            "stop" if self.stopped else last.finish,
            tuple(self._tokens),
            tuple(self._logprobs),
            self._prompt_tokens,
            last.stats,
        )
