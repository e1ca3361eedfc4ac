"""The workload of all engines, and the loop in which a worker serves it: JSON lines on stdin and stdout.

All engines get the same token ids in contexts of the same size. Importing this module loads no engine.
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

BATCH_CONTEXT = 8  # tokens in each sequence of a batch before decoding
FIRST_PROMPT = 32  # tokens in the prompt of a fresh process
WARM_UP = 4  # untimed steps before a decode: threads wake up, and the caches fill with this engine's data


@dataclass(frozen=True, slots=True)
class Case:
    """A request to an engine, and the number of tokens it computes."""

    name: str
    title: str
    request: dict[str, Any]
    tokens: int


@dataclass(frozen=True, slots=True)
class BenchmarkPlan:
    """What to measure. `steps`: tokens per sample of decoding; `repeats`: samples; `starts`: fresh processes."""

    contexts: tuple[int, ...] = (8, 512, 2000)
    prefills: tuple[int, ...] = (128, 512, 2000)
    batch: int = 8
    repeats: int = 7
    steps: int = 64
    starts: int = 3

    def cases(self) -> tuple[Case, ...]:
        """Return the cases: decode at each context, decode of the batch, each prefill."""
        batch = (_decode(BATCH_CONTEXT, self.batch, self.steps),) if self.batch > 1 else ()
        decodes = tuple(_decode(context, 1, self.steps) for context in self.contexts)
        return (*decodes, *batch, *(_prefill(tokens) for tokens in self.prefills))

    @property
    def window(self) -> int:
        """The length of the longest sequence in tokens."""
        longest = max([BATCH_CONTEXT, *self.contexts]) + self.steps
        return max([longest, FIRST_PROMPT, *self.prefills])

    @property
    def total(self) -> int:
        """The most tokens that are in the KV cache at once."""
        return max(self.window, self.batch * (BATCH_CONTEXT + self.steps))


QUICK: dict[str, Any] = {"contexts": (8, 512), "prefills": (128, 512), "repeats": 3, "steps": 32, "starts": 1}
"""The fields of a short `BenchmarkPlan`."""


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
    """A worker's configuration: an artefact or a GGUF file, and sizes; token ids are below `vocab_size`."""

    model: str
    threads: int
    window: int
    batch: int
    total: int
    vocab_size: int

    def to_argument(self) -> str:
        """Serialize it as the argument of a worker's command line."""
        return json.dumps(dataclasses.asdict(self))


class MeasuredEngine(Protocol):
    """An engine as a worker drives it."""

    def facts(self) -> dict[str, Any]:
        """Return facts about the loaded engine, such as sizes."""

    def prefill(self, tokens: int) -> float:
        """Return the seconds from an empty context to the logits after `tokens` tokens."""

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Return the seconds for `steps` tokens in each of `batch` sequences, after `context` tokens."""


class SteppingEngine(ABC):
    """An engine whose sequences can be extended and truncated, so the context of a decode is read only once."""

    vocab_size: int
    _held: tuple[int, int] | None = None

    @abstractmethod
    def clear(self) -> None:
        """Remove all sequences."""

    @abstractmethod
    def read(self, sequence: int, tokens: list[int]) -> None:
        """Prefill a prompt into the new sequence `sequence`."""

    @abstractmethod
    def step(self, tokens: list[int], position: int) -> None:
        """Decode one token for each of the sequences 0, 1, ..., which all have `position` tokens."""

    @abstractmethod
    def cut(self, batch: int, position: int, steps: int) -> None:
        """Remove the last `steps` tokens of each sequence, leaving `position`."""

    def prefill(self, tokens: int) -> float:
        """See `MeasuredEngine`."""
        self.clear()
        self._held = None
        prompt = token_ids(tokens, self.vocab_size)
        started = time.perf_counter()
        self.read(0, prompt)
        return time.perf_counter() - started

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `MeasuredEngine`."""
        if self._held != (context, batch):
            self.clear()
            for sequence in range(batch):
                self.read(sequence, token_ids(context, self.vocab_size))
            self._held = (context, batch)
        self._grow(context, batch, WARM_UP)
        return self._grow(context, batch, steps)

    def _grow(self, context: int, batch: int, steps: int) -> float:
        """Time `steps` tokens of each sequence, and remove them again."""
        started = time.perf_counter()
        for step, token in enumerate(token_ids(steps, self.vocab_size)):
            self.step([token] * batch, context + step)
        seconds = time.perf_counter() - started
        self.cut(batch, context, steps)
        return seconds


def token_ids(count: int, vocab_size: int) -> list[int]:
    """Return fixed ids, spread over the vocabulary."""
    return [number * 7919 % vocab_size for number in range(count)]


def answers(engine: MeasuredEngine, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield the answer to each request."""
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


def serve(load: Callable[[Setup], MeasuredEngine]) -> None:
    """Run a worker: load the engine, print its facts, answer requests until stdin ends."""
    from argosy.support.errors import ArgosyError

    try:
        engine = load(Setup(**json.loads(sys.argv[1])))
        print(json.dumps({"ready": True, **engine.facts()}), flush=True)
        for answer in answers(engine, sys.stdin):
            print(json.dumps(answer), flush=True)
    except ArgosyError as error:
        sys.exit(str(error))
