"""Keep the turns of a conversation, and encode them as prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.messages import Message, check_messages, check_text, check_variables
from argosy.runtime_bindings.chat.template import ChatTemplate
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.runtime_bindings.engine.engine import common_prefix
from argosy.support.errors import ContextFullError

# A sliding conversation leaves this fraction of the context window (1/4) free for the answer, or `max_tokens` if less.
ANSWER_SHARE = 4
SYSTEM_ROLES = ("system", "developer")


class Conversation:
    """The turns of a conversation. Only `commit` adds to them, so that an answer that fails leaves no trace."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate, system: str | None) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._system: str | None = None
        self._preamble: list[Message] = []
        self.turns: list[Message] = []
        self.reset(system)

    def reset(self, system: str | None) -> None:
        """Forget the turns. `system` sets a new system prompt, and removes it if empty; None keeps the last one set."""
        self._system = self._system if system is None else check_text(system, "the system prompt")
        self._preamble = [{"role": "system", "content": self._system}] if self._system else []
        self.turns = []

    def with_question(self, question: str) -> list[Message]:
        """Return the system prompt, the turns so far, and a new one by the user."""
        return [*self._preamble, *self.turns, {"role": "user", "content": check_text(question, "the prompt")}]

    def check(self, messages: object) -> list[Message]:
        """Return a caller's messages as plain records. Raises RequestError for any that the template cannot take."""
        return check_messages(messages, self._template.roles)

    def commit(self, messages: Sequence[Message], answer: str) -> None:
        """Make `messages` and their answer the conversation so far, with the system prompt that they begin with.

        The answer continues a last message by the assistant.
        """
        roles = [message["role"] for message in messages]
        first = next((index for index, role in enumerate(roles) if role not in SYSTEM_ROLES), len(roles))
        self._preamble = list(messages[:first])
        begun = messages[-1] if roles[-1] == "assistant" else None
        answered: Message = {"role": "assistant", "content": answer} if begun is None else _extended(begun, answer)
        self.turns = [*messages[first : None if begun is None else -1], answered]

    def prompt(
        self, messages: Sequence[Message], variables: Mapping[str, Any], config: GenerationConfig, window: int
    ) -> tuple[list[int], int]:
        """Encode `messages` up to where the answer begins, or to the end of a last message by the assistant.

        Returns the token ids, and how many of them must stay if the context slides. If it may slide, the prompt is
        shortened to leave room for an answer in `window` tokens.
        """
        variables = check_variables(variables)
        self._template.check_handled(messages, variables)
        if config.on_context_full != "slide":
            return self._tokens(messages, variables), 0
        tokens = self._fitted(messages, variables, window, config.max_tokens)
        return tokens, min(self._protected(messages, tokens, variables), window // 2)

    def _tokens(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[int]:
        continues = messages[-1]["role"] == "assistant"
        return self._tokenizer.encode(self._template.render(messages, continue_final_message=continues, **variables))

    def _fitted(
        self, messages: Sequence[Message], variables: Mapping[str, Any], window: int, max_tokens: int | None
    ) -> list[int]:
        """Encode `messages` without the oldest turns, as many as it takes to leave room for an answer.

        System messages and the last question stay. Raises ContextFullError if even they are too long.
        """
        room = window // ANSWER_SHARE if max_tokens is None else min(max_tokens, window // ANSWER_SHARE)
        first = [message for message in messages if message["role"] in SYSTEM_ROLES]
        rest = [message for message in messages if message["role"] not in SYSTEM_ROLES]
        while True:
            tokens = self._tokens([*first, *rest], variables)
            following = next((i for i, message in enumerate(rest) if i > 0 and message["role"] == "user"), None)
            if len(tokens) <= window - room or (following is None and len(tokens) <= window):
                return tokens
            if following is None:
                sizes = f"`{len(tokens)}` tokens, and the context window holds {window}"
                raise ContextFullError(f"the question with the system prompt has {sizes}", "shorten it")
            rest = rest[following:]

    def _protected(self, messages: Sequence[Message], tokens: Sequence[int], variables: Mapping[str, Any]) -> int:
        """Count the tokens of the system prompt and of what the template puts before the first question."""
        first = [message for message in messages if message["role"] in SYSTEM_ROLES]
        return common_prefix(tokens, self._tokens([*first, {"role": "user", "content": "."}], variables))


def _extended(message: Message, text: str) -> Message:
    """Return a message with more text at its end."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + text}
    last = {**content[-1], "text": content[-1]["text"] + text}
    return {**message, "content": [*content[:-1], last]}
