"""Requests, a JSON object a line on stdin, go in; the seconds that an engine took for each come out on stdout.

Shared by all engines, so that they get the same token ids in contexts of the same size. Importing it loads nothing.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

BATCH_CONTEXT = 8  # tokens that each sequence of a batch holds when its decode begins
FIRST_PROMPT = 32  # tokens that a fresh process reads before its first token
WARM_UP = 4  # steps before a decode that are not timed: threads wake, and caches forget the engine that ran before


@dataclass(frozen=True, slots=True)
class Case:
    """A request to an engine, and the tokens that its seconds are for."""

    name: str
    title: str
    request: dict[str, Any]
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. `steps`: tokens in one sample of decoding; `repeats`: samples; `starts`: fresh processes."""

    contexts: tuple[int, ...] = (8, 512, 2000)
    prefills: tuple[int, ...] = (128, 512, 2000)
    batch: int = 8
    repeats: int = 7
    steps: int = 64
    starts: int = 3

    def cases(self) -> tuple[Case, ...]:
        """Decode at each context, decode of the batch, each prefill."""
        batch = (_decode(BATCH_CONTEXT, self.batch, self.steps),) if self.batch > 1 else ()
        decodes = tuple(_decode(context, 1, self.steps) for context in self.contexts)
        return (*decodes, *batch, *(_prefill(tokens) for tokens in self.prefills))

    @property
    def window(self) -> int:
        """Tokens of the longest sequence."""
        longest = max([BATCH_CONTEXT, *self.contexts]) + self.steps
        return max([longest, FIRST_PROMPT, *self.prefills])

    @property
    def total(self) -> int:
        """Tokens that are held at most at any time."""
        return max(self.window, self.batch * (BATCH_CONTEXT + self.steps))


QUICK: dict[str, Any] = {"contexts": (8, 512), "prefills": (128, 512), "repeats": 3, "steps": 32, "starts": 1}
"""The fields of a short `Plan`."""


def _prefill(tokens: int) -> Case:
    return Case(f"prefill_{tokens}", f"prefill, {tokens} tokens", {"do": "prefill", "tokens": tokens}, tokens)


def _decode(context: int, batch: int, steps: int) -> Case:
    request = {"do": "decode", "context": context, "batch": batch, "steps": steps}
    if batch > 1:
        name, title = f"decode_{context}_batch_{batch}", f"decode, batch {batch}, context {context}"
    else:
        name, title = f"decode_{context}", f"decode, context {context}"
    return Case(name, title, request, steps * batch)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker is started with: an artefact or a GGUF file, and sizes; token ids are below `vocab_size`."""

    model: str
    threads: int
    window: int
    batch: int
    total: int
    vocab_size: int

    def to_argument(self) -> str:
        """As the one argument of a worker's command line."""
        return json.dumps(dataclasses.asdict(self))


class Engine(Protocol):
    """What a worker drives."""

    def facts(self) -> dict[str, Any]:
        """What the engine says of itself, once, when it is loaded."""

    def prefill(self, tokens: int) -> float:
        """Seconds to read `tokens` tokens into an empty context, to the logits of the next one."""

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Seconds for `steps` tokens of each of `batch` sequences, after `context` tokens each."""


class SteppingEngine(ABC):
    """An engine whose sequences can be grown and cut back: what a decode stands on is read once, not every time."""

    vocab_size: int
    _held: tuple[int, int] | None = None

    @abstractmethod
    def clear(self) -> None:
        """Forget all sequences."""

    @abstractmethod
    def read(self, sequence: int, tokens: list[int]) -> None:
        """Read a prompt into the new sequence number `sequence`."""

    @abstractmethod
    def step(self, tokens: list[int], position: int) -> None:
        """One token for each of the sequences 0, 1, ..., all of which hold `position` tokens."""

    @abstractmethod
    def cut(self, batch: int, position: int, steps: int) -> None:
        """Take back the last `steps` tokens of each sequence, which then hold `position`."""

    def prefill(self, tokens: int) -> float:
        """See `Engine`."""
        self.clear()
        self._held = None
        prompt = token_ids(tokens, self.vocab_size)
        started = time.perf_counter()
        self.read(0, prompt)
        return time.perf_counter() - started

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `Engine`."""
        if self._held != (context, batch):
            self.clear()
            for sequence in range(batch):
                self.read(sequence, token_ids(context, self.vocab_size))
            self._held = (context, batch)
        self._grow(context, batch, WARM_UP)
        return self._grow(context, batch, steps)

    def _grow(self, context: int, batch: int, steps: int) -> float:
        """Seconds for `steps` tokens of each sequence, which are taken back."""
        started = time.perf_counter()
        for step, token in enumerate(token_ids(steps, self.vocab_size)):
            self.step([token] * batch, context + step)
        seconds = time.perf_counter() - started
        self.cut(batch, context, steps)
        return seconds


def token_ids(count: int, vocab_size: int) -> list[int]:
    """Fixed ids, spread over the vocabulary."""
    return [number * 7919 % vocab_size for number in range(count)]


def answers(engine: Engine, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The answer to each request."""
    from argosy.runtime_bindings.engine.memory import memory_use

    for line in lines:
        match json.loads(line):
            case {"do": "prefill", "tokens": tokens}:
                yield {"seconds": engine.prefill(tokens)}
            case {"do": "decode", "context": context, "batch": batch, "steps": steps}:
                yield {"seconds": engine.decode(context, batch, steps)}
            case {"do": "memory"}:
                yield {"peak_bytes": memory_use().peak}
            case other:
                raise ValueError(f"no such request: {other}")


def serve(load: Callable[[Setup], Engine]) -> None:
    """A worker's whole life: load what the command line says, say so, answer until stdin ends."""
    from argosy.support.errors import ArgosyError

    try:
        engine = load(Setup(**json.loads(sys.argv[1])))
        print(json.dumps({"ready": True, **engine.facts()}), flush=True)
        for answer in answers(engine, sys.stdin):
            print(json.dumps(answer), flush=True)
    except ArgosyError as error:
        sys.exit(str(error))
