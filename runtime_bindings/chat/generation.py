"""Hold the settings that an answer is generated with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from argosy.dist.chat_config import ChatConfig
from argosy.dist.sampling import DEFAULT_MAX_TOKENS, MAX_STOP_CHARACTERS, MAX_STOPS
from argosy.runtime_bindings.chat.messages import check_text
from argosy.runtime_bindings.engine.params import SamplingParams, refuse
from argosy.runtime_bindings.engine.request import ON_CONTEXT_FULL, OnContextFull
from argosy.support.errors import RequestError


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationConfig(SamplingParams):
    """The settings of an answer: `SamplingParams`, and what ends it.

    After `max_tokens` the answer ends with reason "length"; with None it goes on until the model ends it or the context
    is full. `stop` is a string before which it ends, or several; they may span tokens. With `ignore_eos` it goes on
    past the model's own end. When the context is full, `on_context_full="stop"` ends the answer with reason "context";
    "slide" drops the oldest turns, then the oldest tokens, but keeps the system prompt.
    """

    max_tokens: int | None = DEFAULT_MAX_TOKENS
    stop: Sequence[str] = ()
    ignore_eos: bool = False
    on_context_full: OnContextFull = "stop"

    def __post_init__(self) -> None:
        SamplingParams.__post_init__(self)
        stops = (self.stop,) if isinstance(self.stop, str) else self.stop
        if not isinstance(stops, list | tuple) or len(stops) > MAX_STOPS:
            raise refuse("stop", self.stop, f"a string or a list of at most {MAX_STOPS} strings")
        object.__setattr__(self, "stop", tuple(stops))
        for stop in self.stop:
            if not isinstance(stop, str) or not 0 < len(stop) <= MAX_STOP_CHARACTERS:
                raise refuse("stop", stop, f"strings of 1 to {MAX_STOP_CHARACTERS} characters")
            check_text(stop, "`stop`")
        if not isinstance(self.ignore_eos, bool):
            raise refuse("ignore_eos", self.ignore_eos, "true or false")
        if self.on_context_full not in ON_CONTEXT_FULL:
            raise refuse("on_context_full", self.on_context_full, "stop or slide")


def model_defaults(config: ChatConfig) -> GenerationConfig:
    """Return the settings of the artefact: those that the model's makers recommend, or else the defaults."""
    return GenerationConfig(**dataclasses.asdict(config.sampling))


def resolve(given: GenerationConfig | Mapping[str, Any] | None, defaults: GenerationConfig) -> GenerationConfig:
    """Return a whole configuration as it is, and complete a mapping of single settings, or None, with `defaults`."""
    if given is None:
        return defaults
    if isinstance(given, GenerationConfig):
        return given
    if isinstance(given, Mapping):
        return defaults.replace(**given)
    kind = type(given).__name__
    raise RequestError(f"`generation_config` is a `{kind}`, it must be a GenerationConfig or a table of settings")
