"""Conversations of one model under threads, signals, failing steps and callbacks, and iterators that are left.

`CHAOS_SECONDS=600 pytest tests/unit/test_chaos.py` runs for ten minutes; by default it is a few seconds. Whatever
happens to an answer, the next one is that of a fresh module, and in the end all memory is free.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tiny_chat import CHUNK, WINDOW

from argosy import ChatModule, LoadedModel
from argosy.support.errors import ContextFullError, RequestError

SECONDS = float(os.environ.get("CHAOS_SECONDS", "6"))
QUESTIONS = ["Hello", "Who are you?", "Name a river.", "Count to ten, please, and then back again."]
SHORT = {"temperature": 0.0, "max_tokens": 6}
ENDLESS = {"temperature": 0.0, "ignore_eos": True, "max_tokens": None}


class Injected(Exception):
    """What a callback or a step raises here."""


class Interrupted(BaseException):
    """What the handler of a signal raises, like KeyboardInterrupt."""


EXPECTED = (Injected, MemoryError, RequestError, ContextFullError, ValueError, asyncio.TimeoutError)


@pytest.fixture(scope="module")
def artefact(tiny_artefact: Callable[..., Path]) -> Path:
    return tiny_artefact(quantization="q0f32", context_window=WINDOW, prefill_chunk=CHUNK, max_batch=3)


@pytest.fixture(scope="module")
def answers(artefact: Path) -> dict[str, str]:
    found = {}
    for question in QUESTIONS:
        with ChatModule(artefact) as chat:
            found[question] = chat.generate(question, generation_config=SHORT)
    return found


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Faults:
    """Makes some steps of a model fail: before the library computes, within it, or after it, when keys and values of
    some tokens are in the cache."""

    def __init__(self, model: LoadedModel, random: random.Random, rate: float) -> None:
        self.rate, self.random, self.count = rate, random, 0
        runner: Any = model._runner
        for name in ("_embed", "_prefill", "_decode", "_batch_prefill", "_batch_decode"):
            setattr(runner, name, self.failing(getattr(runner, name)))

    def failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any) -> Any:
            if self.random.random() >= self.rate:
                return call(*arguments)
            self.count += 1
            kind = self.random.randrange(3)
            if kind == 0:
                raise Injected
            if kind == 1:  # TVM refuses arguments of other types, in its virtual machine
                with pytest.raises(TypeError, match="expect a Tuple"):
                    call(*arguments[:-1], arguments[0])
                raise Injected
            call(*arguments)
            raise MemoryError

        return function


class Actor:
    """Does one thing after another to a conversation, most of them rude."""

    def __init__(self, model: LoadedModel, shared: ChatModule, answers: dict[str, str], seed: int) -> None:
        self.model, self.shared, self.answers = model, shared, answers
        self.random = random.Random(seed)
        self.chat = ChatModule(model)
        self.right = 0

    def act(self) -> None:
        """Do something, and suffer what comes of it."""
        rude = [self.fail_in_callback, self.abandon, self.close, self.cancel, self.share, self.loop, self.renew]
        with suppress(*EXPECTED):
            self.random.choice(rude)(self.random.choice(QUESTIONS))

    def check(self) -> None:
        """Ask as often as it takes to get an answer, which must be right."""
        question = self.random.choice(QUESTIONS)
        for _ in range(200):
            try:
                self.chat.reset_chat()
                answer = self.chat.generate(question, generation_config=SHORT)
            except EXPECTED:
                gc.collect()  # an iterator in a cycle still holds the conversation
                continue
            if self.chat.last is not None and self.chat.last.finish_reason == "cancelled":
                continue  # by a timer of `cancel`, which is late
            assert answer == self.answers[question], (question, answer)
            self.right += 1
            return
        raise AssertionError("no answer in 200 tries")

    def fail_in_callback(self, question: str) -> None:
        left = self.random.randrange(4)

        def callback(delta: str, stopped: bool) -> None:
            nonlocal left
            left -= 1
            if left < 0 and not stopped:
                raise Injected

        self.chat.generate(question, callback, ENDLESS)  # type: ignore[arg-type]

    def abandon(self, question: str) -> None:
        stream = self.chat.stream(question, ENDLESS)
        for _ in range(self.random.randrange(4)):
            next(stream)
        if self.random.random() < 0.5:
            cycle: list[object] = [stream]
            cycle.append(cycle)

    def close(self, question: str) -> None:
        """Here, or in another thread while this one reads."""
        stream = self.chat.stream(question, ENDLESS)
        next(stream)
        if self.random.random() < 0.5:
            stream.close()
            return
        closer = threading.Thread(target=stream.close, daemon=True)
        closer.start()
        for _ in stream:
            pass
        closer.join()

    def cancel(self, question: str) -> None:
        canceller = threading.Timer(self.random.random() * 0.01, self.chat.cancel)
        canceller.start()
        self.chat.generate(question, generation_config=ENDLESS)

    def share(self, question: str) -> None:
        """Use the conversation that others use at the same time, who may refuse this."""
        if self.random.random() < 0.2:
            self.shared.reset_chat()
        for _ in self.shared.stream(question, SHORT):
            self.shared.stats()

    def loop(self, question: str) -> None:
        async def ask() -> None:
            await asyncio.wait_for(self.chat.agenerate(question, ENDLESS), self.random.random() * 0.02)

        asyncio.run(ask())

    def renew(self, question: str) -> None:
        """Give up the conversation, closed or not, answering or not."""
        stream = self.chat.stream(question, ENDLESS)
        next(stream)
        if self.random.random() < 0.5:
            self.chat.close()
        self.chat = ChatModule(self.model)


@contextmanager
def interruptions(rng: random.Random) -> Iterator[list[bool]]:
    """Send this thread signals at random times; their handler raises while the list that is yielded holds True."""
    armed = [False]
    count = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count
        count += 1
        signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.01 + 1e-4)
        if armed[0]:
            raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        yield armed
    finally:
        armed[0] = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert count > 10, "no signals"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what is raised in finalisers
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # a coroutine that an interrupt kept from being awaited
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("max_batch", [1, 3])
def test_whatever_happens_the_next_answer_is_right(artefact: Path, answers: dict[str, str], max_batch: int) -> None:
    seed = int(os.environ.get("CHAOS_SEED", "1")) + max_batch
    model = LoadedModel.load(artefact, max_batch=max_batch)
    store: Any = model._runner.store
    free = store.free_pages()
    faults = Faults(model, random.Random(seed), 0.01)
    shared = ChatModule(model)
    end = time.monotonic() + SECONDS / 2
    actors = [Actor(model, shared, answers, seed * 10 + place) for place in range(4)]
    failures: list[BaseException] = []

    def run(actor: Actor) -> None:
        try:
            while time.monotonic() < end:
                actor.act()
                actor.check()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(actor,), daemon=True) for actor in actors[1:]]
    for thread in threads:
        thread.start()
    with interruptions(random.Random(seed)) as armed:
        while time.monotonic() < end and not failures:
            try:
                armed[0] = True
                actors[0].act()
                armed[0] = False
            except Interrupted:
                armed[0] = False
            actors[0].check()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]
    faults.rate = 0.0
    for actor in actors:
        actor.check()
        actor.chat.close()
    assert all(actor.right > 1 for actor in actors) and faults.count > 0
    shared.reset_chat()
    assert shared.generate("Hello", generation_config=SHORT) == answers["Hello"]
    shared.close()
    del actors, shared
    gc.collect()
    assert repr(model.engine) == "<SharedEngine, 0 requests>" and store.free_pages() == free
    model.close()
