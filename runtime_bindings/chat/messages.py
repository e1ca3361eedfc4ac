"""Check what callers give to a chat template: messages, and further variables."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict, cast

from argosy.support.errors import RequestError
from argosy.support.text import one_line

# Roles of OpenAI's API and of the templates in use; a template that names others accepts those as well.
ROLES = ("system", "user", "assistant", "tool", "developer", "ipython", "function")
MAX_DEPTH = 64  # of lists and dictionaries in a message or variable
# Names that jinja2, the sandbox or `render` give a meaning, so that a value given for them would be lost or in the way.
RESERVED = frozenset({
    "messages", "add_generation_prompt", "continue_final_message", "self", "super", "caller", "loop", "varargs",
    "kwargs", "range", "dict", "namespace", "cycler", "joiner", "lipsum", "raise_exception", "strftime_now",
    "true", "false", "none", "True", "False", "None", "and", "or", "not", "in", "is", "if", "else",
})  # fmt: skip


class Message(TypedDict):
    """One turn of a conversation, as in OpenAI's API. `content` is text, a list of parts of text, or None beside
    `tool_calls`; further keys are for the template."""

    role: str
    content: Any


def check_messages(messages: object, roles: Collection[str] = ROLES) -> list[Message]:
    """Return messages as plain records, without those of their keys that are None.

    Raises RequestError for anything else: another role than one of `roles`, a message with neither content nor tool
    calls, content that is not text, characters that no text may hold.
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise RequestError(f"a conversation is a list of messages, not `{one_line(messages)}`")
    return [_checked_message(message, roles) for message in messages]


def _checked_message(message: object, roles: Collection[str]) -> Message:
    if not isinstance(message, Mapping):
        raise RequestError(f"a message is a mapping with `role` and `content`, not `{one_line(message)}`")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in roles:
        raise RequestError(f"`{one_line(role)}` is not a role, it must be one of {', '.join(sorted(roles))}")
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        raise RequestError(f"a message needs text as its `content`, and `{one_line(message)}` has none")
    if isinstance(content, list | tuple):
        for part in content:
            _check_part(part)
    elif not isinstance(content, str | None):
        raise RequestError(f"a message needs text as its `content`, not `{one_line(content)}`")
    plain = plain_value(message, "a message")
    return cast(Message, {key: value for key, value in plain.items() if value is not None})


def _check_part(part: object) -> None:
    if isinstance(part, Mapping) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
        return
    raise RequestError(
        f"`{one_line(part)}` is not a part of text", 'give text, or parts like {"type": "text", "text": "..."}'
    )


def check_text(text: object, name: str) -> str:
    """Return `text`. Raises RequestError if it is not a str, or holds half of a surrogate pair, which no encoding of
    text can express."""
    if not isinstance(text, str):
        raise RequestError(f"{name} must be text, not `{one_line(text)}`")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X}"
        raise RequestError(
            f"{name} has `{found}` at character {error.start}, half of a surrogate pair", "replace or remove it"
        ) from error
    return str.__str__(text)  # a subclass may override anything


def check_variables(variables: object) -> dict[str, Any]:
    """Return variables for a chat template as plain values.

    Raises RequestError unless they are a mapping of names that a template can use and that are not taken.
    """
    if not isinstance(variables, Mapping):
        raise RequestError(f"template variables are a mapping of names to values, not `{one_line(variables)}`")
    checked: dict[str, Any] = {}
    for name, value in variables.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise RequestError(f"`{one_line(name)}` is not a name for a template variable")
        if name in RESERVED or name.startswith("__"):
            raise RequestError(f"the template variable `{one_line(name)}` has a meaning already", "use another name")
        checked[check_text(name, "the name of a template variable")] = plain_value(
            value, f"the template variable `{one_line(name)}`"
        )
    return checked


def plain_value(value: Any, name: str, depth: int = 0) -> Any:
    """Copy a value as one that JSON can hold: text, numbers, booleans, None, and lists, tuples and mappings of them.

    Raises RequestError for any other value in it: a template could call its methods.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return check_text(value, name)
    if isinstance(value, int):
        number = int.__int__(value)
        if number.bit_length() > 1024:
            raise RequestError(f"{name} has an integer of {number.bit_length()} bits, at most 1024 are allowed")
        return number
    if isinstance(value, float):
        real = float.__float__(value)
        if not math.isfinite(real):
            raise RequestError(f"{name} has the number `{real}`, which JSON cannot express")
        return real
    if depth == MAX_DEPTH:
        raise RequestError(f"{name} has more than {MAX_DEPTH} lists and mappings in each other")
    if isinstance(value, Mapping):
        return {
            plain_value(key, name, MAX_DEPTH): plain_value(item, name, depth + 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        items = (plain_value(item, name, depth + 1) for item in value)
        return tuple(items) if isinstance(value, tuple) else list(items)
    raise RequestError(f"{name} has a value of type `{type(value).__name__}`", "give text, numbers, lists and mappings")
