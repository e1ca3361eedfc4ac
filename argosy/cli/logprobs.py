"""Show the log-probabilities of an answer's tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from argosy.runtime_bindings.chat.tokenizer import Tokenizer
    from argosy.runtime_bindings.engine.sampler import TokenLogprob


def logprob_records(found: Sequence[TokenLogprob], tokenizer: Tokenizer) -> list[dict[str, object]]:
    """Return a JSON object for each token: its id, text, bytes and log-probability, and the likeliest tokens there."""
    return [
        {**_token(entry.token, entry.logprob, tokenizer), "top": [_token(*likely, tokenizer) for likely in entry.top]}
        for entry in found
    ]


def logprob_rows(found: Sequence[TokenLogprob], tokenizer: Tokenizer) -> list[tuple[str, str, str, str]]:
    """Return a line for each token: its text, log-probability and probability, and the likeliest tokens there."""
    return [
        (
            repr(tokenizer.text_of(entry.token)),
            f"{entry.logprob:.3f}",
            _percent(entry.logprob),
            ", ".join(f"{tokenizer.text_of(token)!r} {_percent(logprob)}" for token, logprob in entry.top),
        )
        for entry in found
    ]


def _token(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, object]:
    """Describe a token; JSON has no infinity, so a token that cannot come has the log-probability null."""
    return {
        "token": token,
        "text": tokenizer.text_of(token),
        "bytes": list(tokenizer.bytes_of(token)),
        "logprob": logprob if math.isfinite(logprob) else None,
    }


def _percent(logprob: float) -> str:
    return f"{100 * math.exp(logprob):.1f} %"
