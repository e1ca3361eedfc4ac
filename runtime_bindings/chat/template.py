"""Render a conversation with the model's own chat template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import jinja2
from jinja2.sandbox import SecurityError

from argosy.runtime_bindings.chat.sandbox import (
    MAX_TEMPLATE_CHARACTERS,
    MAX_VALUE,
    LimitedEnvironment,
    LimitExceeded,
    TemplateRefusal,
)
from argosy.support.errors import ArtefactError, RequestError
from argosy.support.text import one_line

ROLES = ("system", "user", "assistant", "tool", "developer")


class Message(TypedDict):
    """One turn of a conversation, as in OpenAI's API: `role` is one of `ROLES`."""

    role: str
    content: str


class ChatTemplate:
    """A model's own Jinja template, with the special tokens that it may use. Threads may render at the same time."""

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """Compile `source`. Raises ArtefactError if it is not Jinja, or too long to be a chat template."""
        if len(source) > MAX_TEMPLATE_CHARACTERS:
            raise ArtefactError(
                f"the model's chat template has `{len(source)}` characters, more than {MAX_TEMPLATE_CHARACTERS}"
            )
        self._environment = LimitedEnvironment()
        self._special_tokens = dict(special_tokens or {})
        try:
            self._template = self._environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise _broken(f"line {error.lineno}: {error.message}") from error
        except (jinja2.TemplateError, SyntaxError, RecursionError, MemoryError, ValueError) as error:
            raise _broken(one_line(error, 200)) from error

    def render(self, messages: Sequence[Mapping[str, Any]], add_generation_prompt: bool = True, **more: Any) -> str:
        """Return the text of a conversation, with `add_generation_prompt` up to where the assistant's answer begins.

        `more` are further variables of the template, such as `tools` or `enable_thinking`. Raises RequestError if the
        template refuses the conversation, ArtefactError if it fails or does what the sandbox does not allow.
        """
        variables = {**self._special_tokens, **more, "messages": list(messages)}
        self._environment.start()
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate(add_generation_prompt=add_generation_prompt, **variables):
                size += len(part)
                if size > MAX_VALUE:
                    raise LimitExceeded("it writes too much")
                parts.append(part)
        except TemplateRefusal as error:
            reason = one_line(error, 200)
            raise RequestError(f"the model's chat template refuses this conversation: `{reason}`") from error
        except (SecurityError, RecursionError, MemoryError) as error:
            raise ArtefactError(
                f"the model's chat template does what the sandbox does not allow: `{one_line(error, 200)}`",
                "get the model from a source that you trust",
            ) from error
        except Exception as error:  # a template is a program, and may raise anything
            raise _broken(one_line(error, 200)) from error
        return "".join(parts)


def check_messages(messages: object) -> list[Message]:
    """Return messages as plain records. Raises RequestError for anything else."""
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise RequestError(f"a conversation is a list of messages, not `{one_line(messages)}`")
    for message in messages:
        if not isinstance(message, Mapping) or not isinstance(message.get("content"), str):
            raise RequestError(f"a message needs text as its `content`, and `{one_line(message)}` has none")
        if message.get("role") not in ROLES:
            raise RequestError(f"`{one_line(message.get('role'))}` is not a role, it must be one of {', '.join(ROLES)}")
    return [cast(Message, {**message}) for message in messages]  # with further keys for the template


def select_template(value: object) -> str | None:
    """Choose the chat template of `tokenizer_config.json`, which holds one as text or a list of named ones.

    Returns the one named `default`, or else the first; None if there is none.
    """
    if value is None or isinstance(value, str):
        return value or None
    named = value if isinstance(value, list) else []
    texts = {entry.get("name"): entry.get("template") for entry in named if isinstance(entry, dict)}
    chosen = texts.get("default") or next((text for text in texts.values() if isinstance(text, str)), None)
    if not isinstance(chosen, str):
        raise ArtefactError(
            f"`chat_template` is `{one_line(value)}`, which is neither a template nor a list of named ones"
        )
    return chosen


def _broken(reason: str) -> ArtefactError:
    return ArtefactError(f"the model's chat template cannot be used: `{reason}`", "use plain completion: chat=False")
