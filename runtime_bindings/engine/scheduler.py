"""Choose the tokens of the next forward pass: some of every running answer, and pieces of the prompts that wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.request import Active
from argosy.runtime_bindings.engine.runner import RunnerLimits
from argosy.runtime_bindings.engine.store import SequenceStore

MIXED_PROMPT_TOKENS = 64
"""The most prompt tokens in a forward pass that also decodes, because a running answer waits for the whole pass.

On two cores SmolLM2 takes 250 ms for 512 prompt tokens, as long as for 80 decoded ones. For 64 it takes 30 ms: answers
go on at 30 tokens a second, and prompts are read as fast as in whole chunks.
"""


@dataclass(frozen=True, slots=True)
class Work:
    """A forward pass: `batch.chunks[i]` continues `requests[i]`, and wants logits if they are to be sampled from."""

    requests: list[Active]
    batch: Batch


@dataclass(frozen=True, slots=True)
class Full:
    """A request for whose next tokens there is no room, even alone."""

    request: Active


class Scheduler:
    """Serves requests first come, first served.

    Every forward pass decodes a token of each running answer, so prompts cannot hold up answers for longer than one
    pass. Prompts share the pass, in pieces: up to `MIXED_PROMPT_TOKENS` in all beside running answers, `prefill_chunk`
    otherwise. A batch that leaves no room for a piece alternates with one of prompts only.

    When pages run out, sequences that nobody uses are emptied by `reclaim`. Then the request that came last gives up
    its pages and waits to be computed again.
    """

    def __init__(self, store: SequenceStore, limits: RunnerLimits, reclaim: Callable[[], bool]) -> None:
        self._waiting: dict[int, Active] = {}  # by id, oldest first
        self._running: dict[int, Active] = {}
        self._store = store
        self._limits = limits
        self._reclaim = reclaim
        self._prompts_alone = False  # whether the last pass had prompts only, while answers were running

    # -- requests

    def add(self, active: Active) -> None:
        """Queue a request that is younger than all others."""
        self._waiting[active.id] = active

    def start_decoding(self, active: Active) -> None:
        """Move a request whose prompt is computed to the running ones."""
        if active.id not in self._running:
            del self._waiting[active.id]
            self._running[active.id] = active
            active.running = True

    def prefill_again(self, active: Active) -> None:
        """Queue a request that lost tokens from the store, where its age places it."""
        self.remove(active)
        active.running = False
        self._waiting[active.id] = active
        self._waiting = dict(sorted(self._waiting.items()))

    def remove(self, active: Active) -> None:
        """Forget a request, if it is there."""
        self._waiting.pop(active.id, None)
        self._running.pop(active.id, None)

    # -- the next step

    def schedule(self) -> Work | Full | None:
        """Return the next step; None if there is nothing to do."""
        self._mend()
        while self._waiting or self._running:
            work = self._work()
            if work is not None:
                return work
            if not self._reclaim() and not self._preempt():
                return Full(next(iter((self._running or self._waiting).values())))
        return None

    def _mend(self) -> None:
        """Repair what a step that was cut off left behind: a waiting request has a token to compute, a running one
        has exactly one."""
        for active in [active for active in self._running.values() if self._missing(active) != 1]:
            self.prefill_again(active)
        for active in self._waiting.values():
            if not self._missing(active):
                self._store.truncate(active.sequence, len(active.tokens) - 1)

    def _missing(self, active: Active) -> int:
        """Count the tokens of a request that are not in the store."""
        return len(active.tokens) - self._store.length(active.sequence)

    def _work(self) -> Work | None:
        """Put running answers and pieces of prompts into one batch; None if there is no room for either."""
        running = list(self._running.values())
        growth = [(active.sequence, 1) for active in running]
        room = self._limits.prefill_chunk - len(running)
        if running and room <= 0:
            budget = 0 if self._prompts_alone else self._limits.prefill_chunk
        else:
            budget = min(room, MIXED_PROMPT_TOKENS) if running else room
        requests, chunks = self._pieces(growth, budget)
        self._prompts_alone = bool(running and chunks and room <= 0)
        if running and not self._prompts_alone and (chunks or self._store.fits(growth)):
            requests = running + requests
            chunks = [Chunk(active.sequence, active.tokens[-1:]) for active in running] + chunks
        return Work(requests, Batch(chunks)) if chunks else None

    def _pieces(self, growth: list[tuple[int, int]], budget: int) -> tuple[list[Active], list[Chunk]]:
        """Cut at most `budget` tokens from as many waiting prompts, in order, as fit into the batch and the free pages
        beside the `growth` of running answers.

        A prompt is let in when there is room for all of it; else the pages that a preempted request gave up would go
        back to it at once.
        """
        requests: list[Active] = []
        chunks: list[Chunk] = []
        for active in self._waiting.values() if budget else ():
            missing = self._missing(active)
            growth = [*growth, (active.sequence, missing)]
            if not budget or len(growth) > self._limits.max_batch or not self._store.fits(growth):
                break
            count = min(missing, budget)
            start = len(active.tokens) - missing
            piece = active.tokens[start : start + count]
            chunks.append(Chunk(active.sequence, piece, "last" if count == missing else "none"))
            requests.append(active)
            budget -= count
        return requests, chunks

    def _preempt(self) -> bool:
        """Take the pages of the youngest request, unless it is the oldest as well; False if nobody else holds any."""
        in_order = sorted([*self._running.values(), *self._waiting.values()], key=lambda active: active.id)
        for active in reversed(in_order[1:]):
            if self._store.length(active.sequence):
                self._store.truncate(active.sequence, 0)
                self.prefill_again(active)
                return True
        return False
