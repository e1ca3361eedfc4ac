"""Say how answers are sampled where nobody says anything, and which values each setting may have."""

from __future__ import annotations

import math

# For a model whose makers recommend nothing. A model without any of these cuts is sampled from its whole vocabulary,
# whose unlikely end small models are bad at.
DEFAULT_TEMPERATURE = 0.7
DEFAULT_TOP_P = 0.95
DEFAULT_MIN_P = 0.05
DEFAULT_MAX_TOKENS = 1024  # so that every answer ends

# field -> (smallest, largest, smallest is excluded); error messages and docs are made from these.
RANGES: dict[str, tuple[float, float, bool]] = {
    "temperature": (0.0, 100.0, False),
    "top_p": (0.0, 1.0, True),
    "min_p": (0.0, 1.0, False),
    "typical_p": (0.0, 1.0, True),
    "repetition_penalty": (0.0, 100.0, True),
    "presence_penalty": (-2.0, 2.0, False),
    "frequency_penalty": (-2.0, 2.0, False),
}
INTEGER_RANGES: dict[str, tuple[int, int]] = {
    "top_k": (0, 2**31 - 1),
    "repeat_last_n": (-1, 2**31 - 1),
    "no_repeat_ngram_size": (0, 2**31 - 1),
    "seed": (0, 2**64 - 1),
    "top_logprobs": (0, 100),
    "max_tokens": (1, 2**31 - 1),
}
DEFAULT_REPEAT_LAST_N = 64
MAX_BANNED = 65536  # tokens; also of `logit_bias`
MAX_BAD_WORDS = 4096
MAX_BAD_WORD_TOKENS = 64
MAX_STOPS = 16
MAX_STOP_CHARACTERS = 1000


def is_allowed(name: str, value: object) -> bool:
    """Return whether a setting with a range may have this value."""
    if isinstance(value, bool):
        return False
    if name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[name]
        return isinstance(value, int) and low <= value <= high
    smallest, largest, excluded = RANGES[name]
    if not isinstance(value, int | float) or (isinstance(value, float) and math.isnan(value)):
        return False
    return smallest <= value <= largest and not (excluded and value == smallest)


def allowed(name: str) -> str:
    """Describe the values that a setting with a range may have: "a number from 0 to 100"."""
    if name in INTEGER_RANGES:
        low, high = INTEGER_RANGES[name]
        return f"a whole number from {low} to {high}"
    smallest, largest, excluded = RANGES[name]
    return f"a number {'above' if excluded else 'from'} {smallest:g} {'and up ' if excluded else ''}to {largest:g}"
