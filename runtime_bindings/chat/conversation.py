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
SYSTEM_ROLES = ("system", "developer")


class Conversation:
    """Turns, and how they become tokens. Only `commit` adds a turn, so that a failed answer leaves no trace."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, system: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._system = system
        self._preamble: list[Message] = []
        self.turns: list[Message] = []
        self.reset(None)

    def reset(self, system: str | None) -> None:
        """Forgets the turns. `system`: a new system prompt; None brings back the last one set, an empty text none."""
        self._system = self._system if system is None else system
        self._preamble = [{"role": "system", "content": self._system}] if self._system else []
        self.turns = []

    def with_question(self, question: str) -> list[Message]:
        """What to ask next: the system prompt, the turns so far and a new one of the user."""
        return [*self._preamble, *self.turns, {"role": "user", "content": question}]

    def commit(self, messages: Sequence[Message], answer: str) -> None:
        """Takes `messages` and their answer as the conversation so far, with the system prompt that they begin with."""
        first = next((i for i, each in enumerate(messages) if each["role"] not in SYSTEM_ROLES), len(messages))
        self._preamble = list(messages[:first])
        self.turns = [*messages[first:], {"role": "assistant", "content": answer}]

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
        first = [each for each in messages if each["role"] in SYSTEM_ROLES]
        rest = [each for each in messages if each["role"] not in SYSTEM_ROLES]
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
        first = [each for each in messages if each["role"] in SYSTEM_ROLES]
        return common_prefix(tokens, self.tokens([*first, {"role": "user", "content": "."}], variables))
