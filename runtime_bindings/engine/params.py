"""Define the parameters of sampling and their allowed ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any, TypeVar

from argosy.dist.sampling import (
    DEFAULT_MIN_P,
    DEFAULT_REPEAT_LAST_N,
    DEFAULT_TEMPERATURE,
    DEFAULT_TOP_P,
    INTEGER_RANGES,
    MAX_BAD_WORD_TOKENS,
    MAX_BAD_WORDS,
    MAX_BANNED,
    RANGES,
    allowed,
    is_allowed,
)
from argosy.support.errors import RequestError

Self = TypeVar("Self", bound="SamplingParams")

OPTIONAL_FIELDS = frozenset({"seed", "max_tokens"})


def refuse(name: str, value: object, allowed: str) -> RequestError:
    """Return the error for a value of field `name` that is not allowed."""
    return RequestError(f"`{name}={value!r}` is not allowed, it must be {allowed}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen. The sampler applies the fields in this order:

    1. `logit_bias` is added to the logits (token id -> bias; `-inf` bans a token). Banned are also `suppress_tokens`,
       for the first token of an answer `begin_suppress_tokens`, what would complete a sequence of `bad_words_ids`, and
       what would repeat a sequence of `no_repeat_ngram_size` tokens of prompt and answer (0: off).
    2. Penalties apply to tokens among the last `repeat_last_n` of prompt and answer (0: off, -1: all of them): a
       positive logit is divided, a negative one multiplied by `repetition_penalty` (CTRL, Keskar et al. 2019), and
       then loses `presence_penalty` once and `frequency_penalty` for each occurrence.
    3. `top_k` keeps the k largest (0: off).
    4. `typical_p` keeps the tokens nearest to the entropy that hold this mass (Meister et al. 2022; 1: off).
    5. `top_p` keeps the smallest set of the likeliest tokens that holds this mass (Holtzman et al. 2020; 1: off).
    6. `min_p` keeps the tokens at least this likely, relative to the likeliest (Nguyen et al. 2024; 0: off).
    7. `temperature` divides the logits that are left, and one token is drawn with `seed`'s generator. At temperature 0
       the largest logit after step 2 is taken, and nothing is drawn.

    This is the order of llama.cpp. Ties go to the lower token id. `logprobs` and `top_logprobs` report the model's own
    distribution, before step 1.
    """

    temperature: float = DEFAULT_TEMPERATURE
    top_k: int = 0
    top_p: float = DEFAULT_TOP_P
    min_p: float = DEFAULT_MIN_P
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repeat_last_n: int = DEFAULT_REPEAT_LAST_N
    no_repeat_ngram_size: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    suppress_tokens: Sequence[int] = ()
    begin_suppress_tokens: Sequence[int] = ()
    bad_words_ids: Sequence[Sequence[int]] = ()
    seed: int | None = None
    logprobs: bool = False
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        for name in (entry.name for entry in fields(self)):
            value = getattr(self, name)
            if name in OPTIONAL_FIELDS and value is None:
                continue
            if name in (*RANGES, *INTEGER_RANGES) and not is_allowed(name, value):
                raise refuse(name, value, allowed(name))
        if not isinstance(self.logprobs, bool):
            raise refuse("logprobs", self.logprobs, "true or false")
        if self.top_logprobs and not self.logprobs:
            raise refuse("top_logprobs", self.top_logprobs, "0 unless `logprobs` is true")
        _check_bias(self.logit_bias)
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            object.__setattr__(self, name, _token_ids(name, getattr(self, name), MAX_BANNED))
        object.__setattr__(self, "bad_words_ids", _bad_words(self.bad_words_ids))

    @property
    def penalises(self) -> bool:
        """Whether step 2 does anything."""
        neutral = self.repetition_penalty == 1.0 and self.presence_penalty == 0.0 and self.frequency_penalty == 0.0
        return not neutral and self.repeat_last_n != 0

    def replace(self: Self, **changes: Any) -> Self:
        """Return a copy with `changes`. Raises RequestError for an unknown name."""
        known = {entry.name for entry in fields(self)}
        for name in changes:
            if name not in known:
                raise RequestError(f"`{name}` is not a generation setting", f"known are: {', '.join(sorted(known))}")
        return replace(self, **changes)


def _check_bias(bias: object) -> None:
    if not isinstance(bias, Mapping) or len(bias) > MAX_BANNED:
        allowed = f"a table of at most {MAX_BANNED} token ids and biases"
        raise refuse("logit_bias", type(bias).__name__, allowed)
    for token, value in bias.items():
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise refuse("logit_bias", token, "keyed by token ids, whole numbers from 0")
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value == math.inf:
            raise refuse("logit_bias", value, "a finite bias, or -inf to ban the token")


def _token_ids(name: str, value: object, most: int) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or len(value) > most:
        raise refuse(name, value, f"a list of at most {most} token ids")
    for token in value:
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise refuse(name, token, "made of token ids, whole numbers from 0")
    return tuple(value)


def _bad_words(value: object) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list | tuple) or len(value) > MAX_BAD_WORDS or not all(value):
        raise refuse("bad_words_ids", value, f"at most {MAX_BAD_WORDS} lists of token ids, none of them empty")
    return tuple(_token_ids("bad_words_ids", word, MAX_BAD_WORD_TOKENS) for word in value)


def check_vocabulary(params: SamplingParams, vocab_size: int) -> None:
    """Raise RequestError for a bias or a ban of a token that the model does not have."""
    named = {
        "logit_bias": params.logit_bias,
        "suppress_tokens": params.suppress_tokens,
        "begin_suppress_tokens": params.begin_suppress_tokens,
        "bad_words_ids": chain.from_iterable(params.bad_words_ids),
    }
    for name, tokens in named.items():
        unknown = next((token for token in tokens if token >= vocab_size), None)
        if unknown is not None:
            raise refuse(name, unknown, f"made of token ids below the model's {vocab_size}")
