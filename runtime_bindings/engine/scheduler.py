"""Requests that wait and requests that run go in; which tokens to compute in the next step comes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from argosy.runtime_bindings.engine.request import Active
from argosy.runtime_bindings.engine.runner import Chunk, RunnerLimits, SequenceStore


@dataclass(frozen=True, slots=True)
class Prefill:
    """Prompts, or pieces of them, to compute together: `chunks[i]` is of `batch[i]`."""

    batch: tuple[Active, ...]
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True, slots=True)
class Decode:
    """Requests of which each gets one more token."""

    batch: tuple[Active, ...]


@dataclass(frozen=True, slots=True)
class Full:
    """A request for whose next tokens there is no room, even alone."""

    active: Active


Plan = Prefill | Decode | Full


class Scheduler:
    """First come, first served. Prompts go before decoding, in pieces of at most `prefill_chunk` tokens; all running
    requests decode together. When pages run out, sequences that nobody uses are emptied by `reclaim`, and then the
    request that came last gives up its pages and waits to be computed again."""

    def __init__(self, store: SequenceStore, limits: RunnerLimits, reclaim: Callable[[], bool]) -> None:
        self.waiting: deque[Active] = deque()
        self.running: list[Active] = []
        self._store = store
        self._limits = limits
        self._reclaim = reclaim

    def schedule(self) -> Plan | None:
        """The next step; None if there is nothing to do."""
        self._mend()
        while self.waiting or self.running:
            prefill = self._prefill()
            if prefill is not None:
                return prefill
            if self.running and self._store.fits([(active.sequence, 1) for active in self.running]):
                return Decode(tuple(self.running))
            if not self._reclaim() and not self._preempt():
                return Full(self.running[0] if self.running else self.waiting[0])
        return None

    def _mend(self) -> None:
        """After a step that was cut off: what waits has a token to compute, and what runs has exactly one."""
        for active in self.running:
            if self._missing(active) != 1:
                self.prefill_again(active)
        for active in self.waiting:
            if self._missing(active) == 0:
                self._store.pop(active.sequence, 1)

    def _missing(self, active: Active) -> int:
        """Tokens that are not in the store yet."""
        return len(active.tokens) - self._store.length(active.sequence)

    def _prefill(self) -> Prefill | None:
        """As many waiting prompts, in order, as fit into the batch, one chunk and the free pages.

        A prompt is let in when there is room for all of it and for one more token of each running request; else the
        pages that a preempted request gave up would go back to it at once.
        """
        batch: list[Active] = []
        chunks: list[Chunk] = []
        growth = [(active.sequence, 1) for active in self.running]
        budget = self._limits.prefill_chunk
        for active in self.waiting:
            growth.append((active.sequence, self._missing(active)))
            if budget == 0 or len(growth) > self._limits.max_batch or not self._store.fits(growth):
                break
            chunks.append(self._chunk(active, min(self._missing(active), budget)))
            batch.append(active)
            budget -= len(chunks[-1].tokens)
        return Prefill(tuple(batch), tuple(chunks)) if batch else None

    def _chunk(self, active: Active, count: int) -> Chunk:
        start = self._store.length(active.sequence)
        return Chunk(active.sequence, active.tokens[start : start + count])

    def _preempt(self) -> bool:
        """Takes the pages of the youngest request, but for the oldest one's; False if nobody else holds any."""
        in_order = sorted([*self.running, *self.waiting], key=lambda active: active.id)
        for active in reversed(in_order[1:]):
            held = self._store.length(active.sequence)
            if held:
                self._store.pop(active.sequence, held)
                self.prefill_again(active)
                return True
        return False

    def prefill_again(self, active: Active) -> None:
        """Puts a request that lost tokens from the store back among the waiting, where its age places it."""
        self.remove(active)
        place = sum(other.id < active.id for other in self.waiting)
        self.waiting.insert(place, active)

    def start_decoding(self, active: Active) -> None:
        """A request whose prompt is computed joins the running ones."""
        self.remove(active)
        self.running.append(active)

    def remove(self, active: Active) -> None:
        """Forgets a request; one that is not there is no error."""
        self.waiting = deque(other for other in self.waiting if other.id != active.id)
        self.running = [other for other in self.running if other.id != active.id]
