"""Take the settings of an answer as keyword arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from argosy.runtime_bindings.chat.generation import GenerationConfig, resolve
from argosy.runtime_bindings.engine.request import OnContextFull
from argosy.support.errors import RequestError
from argosy.support.text import did_you_mean, one_line

Generation = GenerationConfig | Mapping[str, Any] | None

OTHER_NAMES = {
    "do_sample": "temperature", "eos": "stop", "frequency": "frequency_penalty", "length": "max_tokens",
    "max_length": "max_tokens", "max_new_tokens": "max_tokens", "n_predict": "max_tokens", "num_predict": "max_tokens",
    "max_completion_tokens": "max_tokens", "repeat_penalty": "repetition_penalty", "stop_sequences": "stop",
    "stop_strings": "stop", "temp": "temperature", "top_logits": "top_logprobs",
}  # fmt: skip
"""What other programs call a setting."""


class GenerationSettings(TypedDict, total=False):
    """The fields of `GenerationConfig` as keyword arguments of `generate`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    repeat_last_n: int
    no_repeat_ngram_size: int
    logit_bias: Mapping[int, float]
    suppress_tokens: Sequence[int]
    begin_suppress_tokens: Sequence[int]
    bad_words_ids: Sequence[Sequence[int]]
    seed: int | None
    logprobs: bool
    top_logprobs: int
    max_tokens: int | None
    stop: Sequence[str]
    ignore_eos: bool
    on_context_full: OnContextFull


def configuration(given: Generation, defaults: GenerationConfig, settings: Mapping[str, Any]) -> GenerationConfig:
    """Return the configuration `given`, as `resolve` completes it, with `settings` on top. Raises RequestError for a
    name that is no setting, or a value that is not allowed."""
    known = [field.name for field in dataclasses.fields(GenerationConfig)]
    for name in (*(given if isinstance(given, Mapping) else ()), *settings):
        if name not in known:
            meant = OTHER_NAMES.get(name) if isinstance(name, str) else None
            hint = did_you_mean(str(name), known) if meant is None else f"did you mean `{meant}`?"
            raise RequestError(f"`{one_line(name)}` is not a generation setting", hint)
    config = resolve(given, defaults)
    return config.replace(**settings) if settings else config
