"""Compile a language model once, run it on every device: the names that programs import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argosy.runtime_bindings.chat.answer import Reply
    from argosy.runtime_bindings.chat.generation import GenerationConfig
    from argosy.runtime_bindings.chat.model import LoadedModel
    from argosy.runtime_bindings.chat.module import ChatModule
    from argosy.runtime_bindings.chat.stream import StreamIterator, StreamToStdout
    from argosy.support.errors import ArgosyError

# Name -> module that has it. Nothing is imported before it is asked for: `import argosy` takes no time, and what runs a
# model never loads the compiler. Building is `argosy.build.build`.
_NAMES = {
    "ArgosyError": "argosy.support.errors",
    "ChatModule": "argosy.runtime_bindings.chat.module",
    "GenerationConfig": "argosy.runtime_bindings.chat.generation",
    "LoadedModel": "argosy.runtime_bindings.chat.model",
    "Reply": "argosy.runtime_bindings.chat.answer",
    "StreamIterator": "argosy.runtime_bindings.chat.stream",
    "StreamToStdout": "argosy.runtime_bindings.chat.stream",
}
__all__ = ["ArgosyError", "ChatModule", "GenerationConfig", "LoadedModel", "Reply", "StreamIterator", "StreamToStdout"]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module `argosy` has no `{name}`")
    return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
