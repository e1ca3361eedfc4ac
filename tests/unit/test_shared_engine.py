"""One engine with many readers, on a toy model: threads, readers that pause or go away, finalisers within a step."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from threading import Barrier, Thread

import pytest
from test_engine_loop import GREEDY, ToyRunner, greedy_reference, prompt_of

from argosy.runtime_bindings.chat.shared_engine import SharedEngine, Ticket
from argosy.runtime_bindings.engine.batch import Batch
from argosy.runtime_bindings.engine.device import HostLogits
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.request import Request
from argosy.support.errors import RequestError


def request(length: int, max_tokens: int, sequence: int | None = None) -> Request:
    return Request(prompt=prompt_of(length), sampling=GREEDY, max_tokens=max_tokens, sequence=sequence)


def read(engine: SharedEngine, ticket: Ticket) -> Iterator[int]:
    """The tokens of a request, to its end."""
    while True:
        event = engine.advance(ticket)
        if event is not None and event.token is not None:
            yield event.token
        if event is not None and event.finish is not None:
            return


def in_threads(*calls: Callable[[], None]) -> None:
    """Run calls at the same time, each in a thread of its own, and raise what one of them raised."""
    failures: list[BaseException] = []
    barrier = Barrier(len(calls))

    def guarded(call: Callable[[], None]) -> None:
        try:
            barrier.wait(10)
            call()
        except BaseException as error:
            failures.append(error)

    threads = [Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


class Guarded(ToyRunner):
    """A runner that notices when two threads compute at once."""

    busy = 0

    def forward(self, batch: Batch) -> HostLogits:
        self.busy += 1
        assert self.busy == 1, "two threads compute"
        try:
            return super().forward(batch)
        finally:
            self.busy -= 1


@pytest.mark.parametrize("batch", [1, 3])
def test_threads_get_what_each_would_get_alone(batch: int) -> None:
    runner = Guarded(batch=batch)
    engine = SharedEngine(Engine(runner))
    answers: dict[int, list[int]] = {}

    def ask(length: int) -> None:
        sequence = engine.open_sequence()
        for _ in range(3):
            answers[length] = list(read(engine, engine.add(request(length, 12, sequence))))
        assert engine.count_cached_tokens(sequence) >= length
        engine.close_sequence(sequence)

    lengths = (3, 7, 20, 33)
    in_threads(*(lambda length=length: ask(length) for length in lengths))
    assert answers == {length: greedy_reference(prompt_of(length), 12) for length in lengths}
    assert runner.store.content == {}, "every sequence was given back"


def test_a_waiting_thread_is_the_next_to_use_the_engine() -> None:
    """A reader that steps without a pause lets it in."""
    runner = ToyRunner(window=4000)
    engine = SharedEngine(Engine(runner))
    sequence, ticket = engine.open_sequence(), engine.add(request(3, 1000))
    original = runner.forward
    steps: list[int] = []
    for _ in range(10):
        waiter = Thread(target=engine.count_cached_tokens, args=(sequence,), daemon=True)

        def forward(batch: Batch, waiter: Thread = waiter) -> HostLogits:
            waiter.start()
            time.sleep(0.01)
            return original(batch)

        runner.forward = forward  # type: ignore[method-assign]
        engine.advance(ticket)
        runner.forward = original  # type: ignore[method-assign]
        steps.append(0)
        while waiter.is_alive():
            engine.advance(ticket)
            steps[-1] += 1
    assert sorted(steps)[5] <= 3, steps


def test_a_paused_reader_finds_its_events_later() -> None:
    engine = SharedEngine(Engine(ToyRunner()))
    paused = read(engine, engine.add(request(5, 10)))
    begun = [next(paused), next(paused)]
    assert list(read(engine, engine.add(request(9, 20)))) == greedy_reference(prompt_of(9), 20)
    assert [*begun, *paused] == greedy_reference(prompt_of(5), 10)


def test_a_request_behind_one_that_nobody_reads_is_refused() -> None:
    """With room for one answer at a time, where that one goes on for longer than is worth keeping."""
    engine = SharedEngine(Engine(ToyRunner(window=500, batch=1)), max_unread=50)
    endless = read(engine, engine.add(request(5, 400)))
    begun = next(endless)
    with pytest.raises(RequestError, match="nobody reads"):
        list(read(engine, engine.add(request(9, 3))))
    assert [begun, *endless] == greedy_reference(prompt_of(5), 400), "the other answer is as it was"


def test_cancel_gives_the_event_that_ended_a_request() -> None:
    engine = SharedEngine(Engine(ToyRunner()))
    first, second = engine.add(request(5, 10)), engine.add(request(9, 20))
    assert engine.cancel(first).finish == "cancelled"
    third = engine.add(request(5, 2))
    list(read(engine, second))
    assert engine.cancel(third).finish == "length", "it had ended, and nobody had read that"
    again = engine.cancel(third)
    assert again.finish == "cancelled" and again.stats is not None


def test_closing_a_sequence_ends_its_answer_for_the_reader() -> None:
    runner = ToyRunner()
    engine = SharedEngine(Engine(runner))
    sequence = engine.open_sequence()
    identity = engine.add(request(5, 30, sequence))
    reader = read(engine, identity)
    begun = next(reader)
    engine.close_sequence(sequence)
    assert [begun, *reader] == greedy_reference(prompt_of(5), 1) and runner.store.content == {}


def test_finalisers_may_run_within_a_step() -> None:
    """The garbage collector can end a request or close a sequence while this very thread computes."""
    runner = ToyRunner()
    engine = SharedEngine(Engine(runner))
    lost, kept = engine.open_sequence(), engine.open_sequence()
    abandoned = engine.add(request(5, 30, lost))
    original = runner.forward

    def collecting(batch: Batch) -> HostLogits:
        runner.forward = original  # type: ignore[method-assign]
        ended = engine.cancel(abandoned)
        assert ended.finish == "cancelled" and ended.stats is not None
        engine.close_sequence(lost)
        with pytest.raises(RequestError, match="only `cancel`"):
            engine.count_cached_tokens(kept)
        return original(batch)

    runner.forward = collecting  # type: ignore[method-assign]
    assert list(read(engine, engine.add(request(9, 12, kept)))) == greedy_reference(prompt_of(9), 12)
    assert list(runner.store.content) == [kept], "both were done after the step"


def test_an_interrupted_step_frees_the_engine() -> None:
    runner = ToyRunner()
    engine = SharedEngine(Engine(runner))
    identity = engine.add(request(5, 10))
    runner.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        engine.advance(identity)
    answers: list[list[int]] = []
    in_threads(lambda: answers.append(list(read(engine, identity))))
    assert answers == [greedy_reference(prompt_of(5), 10)]
