"""Requests on token ids go in; with each `step` one token of each running request comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from argosy.runtime_bindings.engine.request import Active, Event, FinishReason, Request, check_request
from argosy.runtime_bindings.engine.runner import Runner
from argosy.runtime_bindings.engine.sampler import Sample, Sampler, sample_rows
from argosy.runtime_bindings.engine.scheduler import Decode, Full, Plan, Prefill, Scheduler
from argosy.runtime_bindings.engine.workspace import Workspace
from argosy.support.errors import ArgosyError, RequestError


class Engine:
    """Computes many answers with one model: schedule, run, postprocess.

    An exception out of `step`, KeyboardInterrupt included, leaves every request as it was before that step: it can be
    stepped again, or cancelled. Not thread-safe; TVM keeps a thread pool for each thread that computes, so use one.
    """

    def __init__(self, runner: Runner, clock: Callable[[], float] = time.perf_counter) -> None:
        self._runner = runner
        self._store = runner.store
        self._clock = clock
        self._space = Workspace()  # requests are sampled one after the other
        self._scheduler = Scheduler(runner.store, runner.limits, self._reclaim)
        self._active: dict[int, Active] = {}
        self._open: dict[int, list[int]] = {}  # sequences of open_sequence and their tokens, least recently used first
        self._next_sequence = 0
        self._next_request = 0

    # -- sequences and requests

    def open_sequence(self) -> int:
        """A sequence that outlives its requests, so that the next one reuses what they have in common."""
        sequence = self._new_sequence()
        self._open[sequence] = []
        return sequence

    def close_sequence(self, sequence: int) -> None:
        """Forgets a sequence; a request that uses it is cancelled."""
        for active in [active for active in self._active.values() if active.sequence == sequence]:
            self.cancel(active.id)
        del self._open[sequence]
        self._store.remove(sequence)

    def cached_tokens(self, sequence: int) -> tuple[int, ...]:
        """The tokens of an open sequence whose keys and values are in the store."""
        return tuple(self._open[sequence][: self._store.length(sequence)])

    def add(self, request: Request) -> int:
        """Queues a request and returns its id. RequestError or ContextFullError if the model cannot do it."""
        check_request(request, self._runner.limits)
        if request.sequence is None:
            sequence, tokens, reused = self._new_sequence(), list(request.prompt), 0
        else:
            sequence = request.sequence
            tokens = self._take(sequence)
            reused = self._keep_common_prefix(sequence, tokens, request.prompt)
        identity, self._next_request = self._next_request, self._next_request + 1
        sampler = Sampler(request.sampling, self._space)
        active = Active(identity, request, sampler, sequence, tokens, self._clock(), reused_tokens=reused)
        self._active[identity] = active
        self._scheduler.waiting.append(active)
        return identity

    def cancel(self, request: int) -> Event | None:
        """Ends a request; None if it has already ended."""
        active = self._active.get(request)
        return None if active is None else self._finish(active, "cancelled")

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._active)

    # -- the loop

    def step(self) -> list[Event]:
        """One forward pass: a piece of the waiting prompts, or one token for every running request."""
        plan = self._scheduler.schedule()
        if plan is None:
            return []
        if isinstance(plan, Full):
            return self._make_room(plan.active)
        started = self._clock()
        logits = self._run(plan)
        return self._postprocess(plan, logits, started)

    def _run(self, plan: Prefill | Decode) -> np.ndarray:
        if isinstance(plan, Prefill):
            return self._runner.prefill(plan.chunks)
        return self._runner.decode(
            [active.sequence for active in plan.batch], [active.tokens[-1] for active in plan.batch]
        )

    def _postprocess(self, plan: Prefill | Decode, logits: np.ndarray, started: float) -> list[Event]:
        """Samples for every request whose tokens are all computed, and books the time."""
        ready = [
            (active, row) for active, row in zip(plan.batch, logits, strict=True)
            if self._store.length(active.sequence) == len(active.tokens)
        ]  # fmt: skip
        samples = sample_rows(
            [active.sampler for active, _ in ready], [row for _, row in ready], [active.tokens for active, _ in ready]
        )
        self._book(plan, self._clock() - started)
        events: list[Event] = []
        for (active, _), sample in zip(ready, samples, strict=True):
            events += self._accept(active, sample)
        return events

    def _book(self, plan: Plan, seconds: float) -> None:
        if isinstance(plan, Prefill):
            for active, chunk in zip(plan.batch, plan.chunks, strict=True):
                active.prefill_tokens += len(chunk.tokens)
                active.prefill_seconds += seconds
        elif isinstance(plan, Decode):
            for active in plan.batch:
                active.decode_tokens += 1
                active.decode_seconds += seconds

    def _accept(self, active: Active, sample: Sample | ArgosyError) -> list[Event]:
        """Takes the new token of a request, and ends the request if that is due."""
        if isinstance(sample, ArgosyError):
            return [self._finish(active, "error", error=sample)]
        request = active.request
        if active.answered == 0:
            active.first_token_seconds = self._clock() - active.added_at
        if sample.token in request.stop_tokens:
            return [self._finish(active, "stop", sample)]
        active.tokens.append(sample.token)
        active.answered += 1
        if request.max_tokens is not None and active.answered >= request.max_tokens:
            return [self._finish(active, "length", sample)]
        if len(active.tokens) > self._runner.limits.context_window:
            return [Event(active.id, sample.token, sample.logprob), *self._make_room(active)]
        self._scheduler.start_decoding(active)
        return [Event(active.id, sample.token, sample.logprob)]

    # -- a full context

    def _make_room(self, active: Active) -> list[Event]:
        """Ends a request that has no room left, or slides its context."""
        request = active.request
        room = min(len(active.tokens), self._runner.limits.context_window) - request.protect
        if request.on_context_full == "stop" or room < 2:
            return [self._finish(active, "context")]
        kept = active.tokens[len(active.tokens) - room // 2 :]
        in_store = self._store.length(active.sequence)
        self._store.pop(active.sequence, max(0, in_store - request.protect))
        active.tokens[request.protect :] = kept
        self._scheduler.prefill_again(active)
        return []

    # -- bookkeeping

    def _finish(
        self, active: Active, reason: FinishReason, sample: Sample | None = None, error: ArgosyError | None = None
    ) -> Event:
        self._scheduler.remove(active)
        self._active.pop(active.id, None)
        if active.request.sequence is None:
            self._store.remove(active.sequence)
        token, logprob = (None, None) if sample is None else (sample.token, sample.logprob)
        return Event(active.id, token, logprob, reason, active.stats(), error)

    def _new_sequence(self) -> int:
        sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
        self._store.add(sequence)
        return sequence

    def _take(self, sequence: int) -> list[int]:
        """The tokens of an open sequence that no request uses; it becomes the most recently used one."""
        if sequence not in self._open:
            raise RequestError(f"sequence `{sequence}` is not open")
        if any(active.sequence == sequence for active in self._active.values()):
            raise RequestError(f"sequence `{sequence}` is in use by another request", "wait for it, or cancel it")
        tokens = self._open.pop(sequence)
        self._open[sequence] = tokens
        return tokens

    def _keep_common_prefix(self, sequence: int, tokens: list[int], prompt: Sequence[int]) -> int:
        """Cuts the store to what it shares with `prompt`, short of the last token, whose logits are needed."""
        held = self._store.length(sequence)
        common = common_prefix(tokens[:held], prompt[: len(prompt) - 1])
        self._store.pop(sequence, held - common)
        tokens[common:] = prompt[common:]
        return common

    def _reclaim(self) -> bool:
        """Empties the least recently used open sequence that no request uses; False if there is none."""
        busy = {active.sequence for active in self._active.values()}
        for sequence in self._open:
            held = self._store.length(sequence)
            if sequence not in busy and held:
                self._store.pop(sequence, held)
                return True
        return False


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many tokens the two begin with in common."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
