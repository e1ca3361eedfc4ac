"""Define requests, the events and figures that they lead to, and their state while they are under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from argosy.dist.sampling import allowed, is_allowed
from argosy.runtime_bindings.engine.params import SamplingParams, check_vocabulary, refuse
from argosy.runtime_bindings.engine.runner import RunnerLimits
from argosy.runtime_bindings.engine.sampler import TokenLogprob
from argosy.support.errors import ArgosyError, ContextFullError

FinishReason = Literal["stop", "length", "context", "cancelled", "error"]
OnContextFull = Literal["stop", "slide"]
ON_CONTEXT_FULL: tuple[OnContextFull, ...] = ("stop", "slide")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer to compute.

    `sequence` comes from `Engine.open_sequence`: what it shares with `prompt` is not computed again, and it is kept
    afterwards. Without it, a sequence is added for this request and removed at its end.

    When the context is full, `stop` ends the answer with reason "context"; `slide` drops the oldest tokens after the
    first `protect` ones, so that half of the rest is free again, and computes the kept ones anew: the answer goes on
    as if the dropped tokens had never been there.
    """

    prompt: Sequence[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop_tokens: frozenset[int] = frozenset()
    on_context_full: OnContextFull = "stop"
    protect: int = 0
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class RequestStats:
    """Tokens and wall-clock seconds of one request; a step that several requests share counts fully for each of them.

    `reused_tokens` were in the cache already, `prefill_tokens` were computed (more than the prompt if the context
    slid).
    """

    reused_tokens: int = 0
    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    first_token_seconds: float = 0.0

    @property
    def prefill_rate(self) -> float:
        """Tokens per second; 0 if none were computed."""
        return self.prefill_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_rate(self) -> float:
        """Tokens per second; 0 if none were computed."""
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True, slots=True)
class Event:
    """What a step did for one request: a new token, its end, or both.

    A token that ended the answer with reason "stop" is not part of it. The last event has `stats`, and `error` if the
    reason is "error".
    """

    request: int
    token: int | None = None
    logprob: TokenLogprob | None = None
    finish: FinishReason | None = None
    stats: RequestStats | None = None
    error: ArgosyError | None = None


@dataclass(slots=True)
class Active:
    """A request under way. `tokens` are prompt and answer, of which the store always holds a prefix; `sampling` is
    what the sampler keeps of the request; `running` says whether the last tokens were decoded, not read."""

    id: int
    request: Request
    sampling: Any
    sequence: int
    tokens: list[int]
    added_at: float
    running: bool = False
    answered: int = 0
    reused_tokens: int = 0
    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_tokens: int = 0
    decode_seconds: float = 0.0
    first_token_seconds: float = 0.0

    def book(self, tokens: int, seconds: float) -> None:
        """Count a step that computed `tokens` of this request."""
        if self.running:
            self.decode_tokens += tokens
            self.decode_seconds += seconds
        else:
            self.prefill_tokens += tokens
            self.prefill_seconds += seconds

    def stats(self) -> RequestStats:
        """Return the figures so far."""
        return RequestStats(
            self.reused_tokens, self.prefill_tokens, self.prefill_seconds, self.decode_tokens, self.decode_seconds,
            self.first_token_seconds,
        )  # fmt: skip


def check_request(request: Request, limits: RunnerLimits, capacity: int) -> None:
    """Raise RequestError for what the model cannot do, ContextFullError for a prompt that is too long for its context
    window, or for a KV cache that holds `capacity` tokens."""
    if not request.prompt:
        raise refuse("prompt", [], "at least one token")
    unknown = next((token for token in request.prompt if not 0 <= token < limits.vocab_size), None)
    if unknown is not None:
        raise refuse("prompt", unknown, f"token ids from 0 to {limits.vocab_size - 1}")
    if request.max_tokens is not None and not is_allowed("max_tokens", request.max_tokens):
        raise refuse("max_tokens", request.max_tokens, f"{allowed('max_tokens')}, or nothing")
    if request.on_context_full not in ON_CONTEXT_FULL:
        raise refuse("on_context_full", request.on_context_full, "stop or slide")
    if request.on_context_full == "slide" and not 0 <= request.protect < limits.context_window - 1:
        raise refuse("protect", request.protect, f"from 0 to {limits.context_window - 2}, so that something can slide")
    check_vocabulary(request.sampling, limits.vocab_size)
    if len(request.prompt) > limits.context_window:
        raise ContextFullError(
            f"the prompt has `{len(request.prompt)}` tokens, and the context window holds {limits.context_window}",
            "shorten it, or build with a larger --context-window, as far as the model's own limit goes",
        )
    if len(request.prompt) > capacity:
        raise ContextFullError(
            f"the prompt has `{len(request.prompt)}` tokens, and the KV cache holds {capacity}",
            "shorten it, or load the model with a larger KV cache",
        )
