"""A toy model in numpy for tests of the engine, with a store that counts pages."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np

from argosy.runtime_bindings.engine.batch import Batch
from argosy.runtime_bindings.engine.device import HostLogits
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.request import Event, Request
from argosy.runtime_bindings.engine.runner import RunnerLimits

VOCAB = 50
PAGE = 4
GREEDY = SamplingParams(temperature=0)


def toy_logits(tokens: Sequence[int]) -> np.ndarray:
    """Compute logits from every token and its position, so that any wrong key or value is noticed."""
    digest = hashlib.sha256(bytes(tokens)).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=VOCAB).astype(np.float32)


class ToyStore:
    """Sequences as lists of tokens in pages of 4, none of them shared. It can go back to multiples of `grain` only, or
    with 0 to the beginning."""

    def __init__(self, pages: int, grain: int = 1) -> None:
        self.pages = pages
        self.grain = grain
        self.content: dict[int, list[int]] = {}

    @property
    def capacity(self) -> int:
        return self.pages * PAGE

    def add(self, sequence: int) -> None:
        assert sequence not in self.content
        self.content[sequence] = []

    def fork(self, parent: int, child: int, length: int) -> None:
        self.content[child] = self.content[parent][:length]

    def remove(self, sequence: int) -> None:
        del self.content[sequence]

    def truncate(self, sequence: int, length: int) -> int:
        assert length >= 0
        if length < len(self.content[sequence]):
            del self.content[sequence][length // self.grain * self.grain if self.grain else 0 :]
        return len(self.content[sequence])

    def length(self, sequence: int) -> int:
        return len(self.content[sequence])

    def used(self) -> int:
        return sum(-(-len(tokens) // PAGE) for tokens in self.content.values())

    def fits(self, growth: Sequence[tuple[int, int]]) -> bool:
        new = sum(-(-(self.length(s) + n) // PAGE) - -(-self.length(s) // PAGE) for s, n in growth)
        return new <= self.pages - self.used()


class ToyRunner:
    """A `Runner` that records its batches and can be told to fail.

    `calls` has the sequences of a batch of one token each, else the lengths of its pieces of prompts.
    """

    def __init__(self, window: int = 64, chunk: int = 16, batch: int = 4, pages: int = 1000, grain: int = 1) -> None:
        self.limits = RunnerLimits(VOCAB, window, chunk, batch)
        self.store = ToyStore(pages, grain)
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self.batches: list[Batch] = []
        self.fail: BaseException | None = None

    def forward(self, batch: Batch) -> HostLogits:
        counts = batch.counts
        assert min(counts) > 0 and (max(counts) == 1 or sum(counts) <= self.limits.prefill_chunk)
        pieces = tuple(count for count in counts if count > 1)
        self.calls.append(("prefill", pieces) if pieces else ("decode", tuple(batch.sequences)))
        self.batches.append(batch)
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure
        assert len(set(batch.sequences)) == len(batch.chunks) <= self.limits.max_batch
        for chunk in batch.chunks:
            self.store.content[chunk.sequence] += chunk.tokens
            assert len(self.store.content[chunk.sequence]) <= self.limits.context_window
        assert self.store.used() <= self.store.pages
        rows = [toy_logits(self.store.content[chunk.sequence]) for chunk in batch.chunks if chunk.logits == "last"]
        return HostLogits(np.stack(rows) if rows else np.empty((0, VOCAB), np.float32))


def drain(engine: Engine, limit: int = 5000) -> dict[int, list[Event]]:
    """Step until no work is left; return the events of every request."""
    events: dict[int, list[Event]] = {}
    for _ in range(limit):
        if not engine.has_work:
            return events
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
    raise AssertionError("the engine makes no progress")


def answer(events: list[Event]) -> list[int]:
    return [e.token for e in events if e.token is not None and e.finish != "stop"]


def greedy_reference(prompt: Sequence[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(toy_logits(tokens))))
    return tokens[len(prompt) :]


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return [random.Random(f"{seed}-{length}-{i}").randrange(VOCAB) for i in range(length)]


Job = tuple[int, int, int]
"""Tokens of a prompt, tokens of its answer, and steps until the next request comes."""


def check_jobs(runner: ToyRunner, jobs: Sequence[Job]) -> None:
    """Serve requests that come one after the other, and check that each is answered as if it were alone."""
    engine = Engine(runner)
    ids: list[int] = []
    events: dict[int, list[Event]] = {}
    for number, (length, count, pause) in enumerate(jobs):
        ids.append(engine.add(Request(prompt=prompt_of(length, number), sampling=GREEDY, max_tokens=count)))
        for _ in range(pause):
            for event in engine.step():
                events.setdefault(event.request, []).append(event)
    for request, more in drain(engine).items():
        events.setdefault(request, []).extend(more)
    for number, (request, (length, count, _)) in enumerate(zip(ids, jobs, strict=True)):
        assert answer(events[request]) == greedy_reference(prompt_of(length, number), count)
        assert events[request][-1].finish == "length"
    assert runner.store.content == {}, "finished requests leave nothing behind"
