"""Save conversations under a name in the user's data directory, and load them again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argosy.support.errors import ArgosyError, UsageError
from argosy.support.strict_json import JsonError, parse_json
from argosy.support.text import did_you_mean, one_line
from argosy.support.user_files import data_directory, write_private

_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]{0,79}")
_LARGEST = 64 << 20  # bytes


@dataclass(frozen=True, slots=True)
class SavedConversation:
    """A conversation, the model that it was held with, and the settings of its answers."""

    model: str
    system: str | None
    messages: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]


def save(name: str, conversation: SavedConversation) -> bool:
    """Save a conversation, in a file that only this user can read, and return whether it replaced another.

    Raises UsageError for a name that is not plain, ArgosyError if the file cannot be written.
    """
    path = _path(name)
    before = path.exists()
    values = {
        "model": conversation.model,
        "system": conversation.system,
        "messages": list(conversation.messages),
        "settings": {key: value for key, value in conversation.settings.items() if key != "logit_bias"},
    }
    try:
        write_private(path, json.dumps(values, indent=1, ensure_ascii=False).encode("utf-8", "replace"))
    except OSError as error:
        raise ArgosyError(f"`{path}` cannot be written: {_reason(error)}", "ARGOSY_HOME is another directory") from None
    return before


def load(name: str) -> SavedConversation:
    """Load the conversation called `name`. Raises ArgosyError if there is none, or if its file was damaged."""
    path = _path(name)
    try:
        data = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    except FileNotFoundError:
        names = saved_names()
        hint = did_you_mean(name, names) if names else "/save NAME saves the present one"
        raise ArgosyError(f"there is no saved conversation `{name}`", hint) from None
    except OSError as error:
        raise ArgosyError(f"`{path}` cannot be read: {_reason(error)}") from None
    try:
        values = parse_json(data)
    except JsonError as error:
        raise ArgosyError(f"`{path}` {error}", "remove the file") from None
    if not isinstance(values, dict) or not _is_sound(values):
        raise ArgosyError(f"`{path}` is not a conversation that /save has written", "remove the file")
    return SavedConversation(values["model"], values["system"], values["messages"], values["settings"])


def saved_names() -> list[str]:
    """List the names of the saved conversations."""
    try:
        return sorted(path.stem for path in _folder().glob("*.json"))
    except OSError:
        return []


def is_saved(name: str) -> bool:
    """Return whether there is a conversation called `name`."""
    return _NAME.fullmatch(name) is not None and _path(name).is_file()


def _is_sound(values: Mapping[str, Any]) -> bool:
    messages = values.get("messages")
    return (
        isinstance(values.get("model"), str)
        and isinstance(values.get("system", 0), str | None)
        and isinstance(values.get("settings"), dict)
        and isinstance(messages, list)
        and all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages)
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _folder() -> Path:
    return data_directory() / "conversations"


def _path(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"`{one_line(name)}` cannot name a conversation", "take Latin letters, digits, and `.`, `_`, `+` or `-`"
        )
    return _folder() / f"{name}.json"
