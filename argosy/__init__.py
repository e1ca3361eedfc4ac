"""Compile a language model once, run it on your devices: the names that programs import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argosy.build import build_model as build
    from argosy.runtime_bindings.chat.answer import Reply
    from argosy.runtime_bindings.chat.answer_stream import AnswerStream
    from argosy.runtime_bindings.chat.generation import GenerationConfig
    from argosy.runtime_bindings.chat.model import LoadedModel
    from argosy.runtime_bindings.chat.module import ChatModule
    from argosy.runtime_bindings.chat.stream import StreamIterator, StreamToStdout
    from argosy.support.errors import ArgosyError

    __version__: str

# Name -> module that has it. Nothing is imported before it is asked for: `import argosy` takes no time, and what runs a
# model never loads the compiler. `build` is a package that can be called.
_NAMES = {
    "AnswerStream": "argosy.runtime_bindings.chat.answer_stream",
    "ArgosyError": "argosy.support.errors",
    "ChatModule": "argosy.runtime_bindings.chat.module",
    "GenerationConfig": "argosy.runtime_bindings.chat.generation",
    "LoadedModel": "argosy.runtime_bindings.chat.model",
    "Reply": "argosy.runtime_bindings.chat.answer",
    "StreamIterator": "argosy.runtime_bindings.chat.stream",
    "StreamToStdout": "argosy.runtime_bindings.chat.stream",
}
__all__ = [
    "AnswerStream", "ArgosyError", "ChatModule", "GenerationConfig", "LoadedModel", "Reply", "StreamIterator",
    "StreamToStdout", "__version__", "build",
]  # fmt: skip


if not TYPE_CHECKING:  # which would believe in any name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("argosy")
        if name == "build":
            return import_module("argosy.build")
        if name not in _NAMES:
            hint = ""
            if not name.startswith("_"):
                from argosy.support.text import did_you_mean

                hint = f", {did_you_mean(name, __all__)}"
            raise AttributeError(f"module `argosy` has no `{name}`{hint}")
        return getattr(import_module(_NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
