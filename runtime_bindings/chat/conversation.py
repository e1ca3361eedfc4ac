"""Turns of a conversation go in; the token ids of the prompt that asks for the next answer come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from argosy.runtime_bindings.chat.template import ChatTemplate, Message
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.runtime_bindings.engine.engine import common_prefix
from argosy.support.errors import ContextFullError

# Part of the context window that a sliding conversation leaves free for the answer, unless less than that is asked for.
ANSWER_SHARE = 4


class Conversation:
    """Turns, and how they become tokens. A turn is added only with `commit`, so that a failed answer leaves no
    trace."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, system: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self.system = system
        self.turns: list[Message] = []

    def with_question(self, question: str) -> list[Message]:
        """What to ask next: the system prompt, the turns so far and a new one of the user."""
        return [*self._preamble(), *self.turns, {"role": "user", "content": question}]

    def commit(self, messages: Sequence[Message], answer: str) -> None:
        """Takes `messages` and their answer as the turns so far."""
        kept = messages[len(self._preamble()) :] if list(messages[:1]) == self._preamble() else messages
        self.turns = [*kept, {"role": "assistant", "content": answer}]

    def _preamble(self) -> list[Message]:
        return [{"role": "system", "content": self.system}] if self.system else []

    def tokens(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[int]:
        """The prompt up to where the answer begins."""
        return self._tokenizer.encode(self._template.render(messages, **variables))

    def fitted(
        self, messages: Sequence[Message], variables: Mapping[str, Any], window: int, max_tokens: int | None
    ) -> list[int]:
        """`tokens`, without as many of the oldest turns as it takes to leave room for an answer in `window` tokens.

        System messages and the last question stay; ContextFullError if even they are too long.
        """
        room = window // ANSWER_SHARE if max_tokens is None else min(max_tokens, window // ANSWER_SHARE)
        first = [each for each in messages if each["role"] in ("system", "developer")]
        rest = [each for each in messages if each["role"] not in ("system", "developer")]
        while True:
            tokens = self.tokens([*first, *rest], variables)
            following = next((i for i, each in enumerate(rest) if i > 0 and each["role"] == "user"), None)
            if len(tokens) <= window - room or (following is None and len(tokens) <= window):
                return tokens
            if following is None:
                sizes = f"`{len(tokens)}` tokens, and the context window holds {window}"
                raise ContextFullError(f"the question with the system prompt has {sizes}", "shorten it")
            rest = rest[following:]

    def protected(self, messages: Sequence[Message], tokens: Sequence[int], variables: Mapping[str, Any]) -> int:
        """How many of the first tokens are the system prompt and what the template puts before the first question."""
        first = [each for each in messages if each["role"] in ("system", "developer")]
        return common_prefix(tokens, self.tokens([*first, {"role": "user", "content": "."}], variables))
