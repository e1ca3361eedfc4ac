"""Compute answers to many requests with one model, a token of each in every step. Token ids only."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from argosy.runtime_bindings.engine.device import Logits
from argosy.runtime_bindings.engine.request import Active, Event, FinishReason, Request, check_request
from argosy.runtime_bindings.engine.runner import Runner
from argosy.runtime_bindings.engine.sampler import HostSampler, Sample, TokenSampler
from argosy.runtime_bindings.engine.scheduler import Full, Scheduler, Work
from argosy.support.errors import ArgosyError, RequestError


class Engine:
    """Serves requests with one model: schedule, run, postprocess.

    An exception out of `step`, KeyboardInterrupt included, leaves every request as it was before that step: it can be
    stepped again, or cancelled. A call while another thread is in one raises RequestError. `SharedEngine` lets threads
    take turns.
    """

    def __init__(
        self, runner: Runner, clock: Callable[[], float] = time.perf_counter, sampler: TokenSampler | None = None
    ) -> None:
        """Serve requests with `runner`. `sampler`: by default one that runs on the host."""
        self._runner = runner
        self._store = runner.store
        self._clock = clock
        self._sampler = HostSampler() if sampler is None else sampler
        self._scheduler = Scheduler(runner.store, runner.limits, self._reclaim)
        self._active: dict[int, Active] = {}
        self._open: dict[int, list[int]] = {}  # sequences of open_sequence and their tokens, least recently used first
        self._next_sequence = 0
        self._next_request = 0
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<Engine, {len(self._active)} requests, {len(self._open)} open sequences>"

    # -- sequences and requests

    def open_sequence(self) -> int:
        """Open a sequence that outlives its requests, so that the next one reuses what they have in common."""
        with self._exclusive():
            sequence = self._new_sequence()
            self._open[sequence] = []
            return sequence

    def close_sequence(self, sequence: int) -> None:
        """Forget a sequence, and cancel the request that uses it."""
        with self._exclusive():
            for active in [active for active in self._active.values() if active.sequence == sequence]:
                self._finish(active, "cancelled")
            del self._open[sequence]
            self._store.remove(sequence)

    @property
    def open_sequences(self) -> int:
        """The number of sequences that are open."""
        return len(self._open)

    def cached_tokens(self, sequence: int) -> tuple[int, ...]:
        """Return the tokens of an open sequence that the store holds."""
        return tuple(self._open[sequence][: self._store.length(sequence)])

    def check(self, request: Request) -> None:
        """Raise what `add` would raise for a request that the model cannot serve. May be called by any thread."""
        check_request(request, self._runner.limits, self._store.capacity)

    def add(self, request: Request) -> int:
        """Queue a request and return its id. Raises RequestError or ContextFullError if the model cannot do it."""
        with self._exclusive():
            self.check(request)
            sampling = self._sampler.begin(request.sampling)
            if request.sequence is None:
                sequence, tokens, reused = self._new_sequence(), list(request.prompt), 0
            else:
                sequence = request.sequence
                tokens = self._take(sequence)
                reused = self._keep_common_prefix(sequence, tokens, request.prompt)
            identity, self._next_request = self._next_request, self._next_request + 1
            active = Active(identity, request, sampling, sequence, tokens, self._clock(), reused_tokens=reused)
            self._active[identity] = active
            self._scheduler.add(active)
            return identity

    def cancel(self, request: int) -> Event | None:
        """End a request; None if it has already ended."""
        with self._exclusive():
            active = self._active.get(request)
            return None if active is None else self._finish(active, "cancelled")

    @property
    def has_work(self) -> bool:
        """Whether a request waits or runs."""
        return bool(self._active)

    # -- the loop

    def step(self) -> list[Event]:
        """Run one forward pass: a token of every running request, and pieces of the prompts that wait."""
        with self._exclusive():
            work = self._scheduler.schedule()
            if work is None:
                return []
            if isinstance(work, Full):
                return self._make_room(work.request)
            started = self._clock()
            logits = self._runner.forward(work.batch)
            return self._postprocess(work, logits, started)

    def _postprocess(self, work: Work, logits: Logits, started: float) -> list[Event]:
        """Sample for every request whose tokens are all computed, and book the time."""
        chunks = work.batch.chunks
        ready = [active for active, chunk in zip(work.requests, chunks, strict=True) if chunk.logits == "last"]
        samples: Sequence[Sample | ArgosyError] = ()
        if ready:
            samples = self._sampler.sample(logits, [a.sampling for a in ready], [a.tokens for a in ready])
        seconds = self._clock() - started
        for active, chunk in zip(work.requests, chunks, strict=True):
            active.book(len(chunk.tokens), seconds)
        events: list[Event] = []
        for active, sample in zip(ready, samples, strict=True):
            self._accept(active, sample, events)
        return events

    def _accept(self, active: Active, sample: Sample | ArgosyError, events: list[Event]) -> None:
        """Append the new token of a request to its answer, and end the request if that is due."""
        request = active.request
        if isinstance(sample, ArgosyError):
            events.append(self._finish(active, "error", error=sample))
            return
        if active.answered == 0:
            active.first_token_seconds = self._clock() - active.added_at
        if sample.token in request.stop_tokens:
            events.append(self._finish(active, "stop", sample))
            return
        active.tokens.append(sample.token)
        active.answered += 1
        if request.max_tokens is not None and active.answered >= request.max_tokens:
            events.append(self._finish(active, "length", sample))
            return
        events.append(Event(active.id, sample.token, sample.logprob))
        if len(active.tokens) > self._runner.limits.context_window:
            events += self._make_room(active)
        else:
            self._scheduler.start_decoding(active)

    # -- a full context

    def _make_room(self, active: Active) -> list[Event]:
        """End a request that has no room left, or slide its context."""
        request = active.request
        room = min(len(active.tokens), self._runner.limits.context_window) - request.protect
        if request.on_context_full == "stop" or room < 2:
            return [self._finish(active, "context")]
        kept = active.tokens[len(active.tokens) - room // 2 :]
        self._store.truncate(active.sequence, request.protect)
        active.tokens[request.protect :] = kept
        self._scheduler.prefill_again(active)
        return []

    # -- bookkeeping

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep other threads out. Raises RequestError if one is in."""
        if not self._lock.acquire(blocking=False):
            raise RequestError("the engine is in use in another thread", "share it by a SharedEngine")
        try:
            yield
        finally:
            self._lock.release()

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
        """Return the tokens of an open sequence that no request uses, and make it the most recently used one."""
        if sequence not in self._open:
            raise RequestError(f"sequence `{sequence}` is not open")
        if any(active.sequence == sequence for active in self._active.values()):
            raise RequestError(f"sequence `{sequence}` is in use by another request", "wait for it, or cancel it")
        tokens = self._open.pop(sequence)
        self._open[sequence] = tokens
        return tokens

    def _keep_common_prefix(self, sequence: int, tokens: list[int], prompt: Sequence[int]) -> int:
        """Cut a sequence to what it shares with `prompt`, and return its length; `tokens` becomes the prompt.

        The last token of the prompt is computed in any case: its logits are needed.
        """
        common = min(common_prefix(tokens, prompt), self._store.length(sequence), len(prompt) - 1)
        kept = self._store.truncate(sequence, common)
        tokens[kept:] = prompt[kept:]
        return kept

    def _reclaim(self) -> bool:
        """Empty the least recently used open sequence that no request uses; False if there is none."""
        busy = {active.sequence for active in self._active.values()}
        for sequence in self._open:
            if sequence not in busy and self._store.length(sequence):
                self._store.truncate(sequence, 0)
                return True
        return False


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the tokens that both sequences begin with."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
