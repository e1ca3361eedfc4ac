"""Prompts and running answers share forward passes, on a toy model: nobody starves, and nothing changes an answer."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runner import GREEDY, ToyRunner, answer, check_jobs, drain, greedy_reference, prompt_of

from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.request import Event, Request
from argosy.runtime_bindings.engine.scheduler import MIXED_PROMPT_TOKENS


def add(engine: Engine, length: int, seed: int, count: int, sequence: int | None = None) -> int:
    return engine.add(Request(prompt=prompt_of(length, seed), sampling=GREEDY, max_tokens=count, sequence=sequence))


@pytest.mark.parametrize(("chunk", "batch", "patience"), [(16, 4, 1), (3, 3, 1), (2, 4, 2), (1, 4, 2)])
def test_engine_stream_of_prompts_does_not_starve_running_answers(chunk: int, batch: int, patience: int) -> None:
    """A prompt arrives with every step. An answer that runs gets a token in each, or in every other step if a batch of
    answers leaves no room for a prompt."""
    engine = Engine(ToyRunner(chunk=chunk, batch=batch))
    first = add(engine, 5, 0, 40)
    events: dict[int, list[Event]] = {}
    steps: list[int] = []  # in which the first request got a token
    for step in range(200):
        if step < 60:
            add(engine, 9, step + 1, 5)
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
            if event.request == first:
                steps.append(step)
    assert len(steps) == 40 and max(late - early for early, late in pairwise(steps)) <= patience
    done = [request for request, seen in events.items() if seen[-1].finish]
    assert len(done) > 10, "prompts make progress meanwhile"
    assert done == sorted(done), "first come, first served"
    for request in done[1:]:
        assert answer(events[request]) == greedy_reference(prompt_of(9, request), 5)


def test_engine_reads_a_prompt_in_whole_chunks_when_nothing_runs() -> None:
    runner = ToyRunner(window=2000, chunk=512, batch=2)
    engine = Engine(runner)
    add(engine, 1100, 0, 3)
    drain(engine)
    assert [batch.counts for batch in runner.batches] == [[512], [512], [76], [1], [1]]
    wanted = [chunk.logits for batch in runner.batches for chunk in batch.chunks]
    assert wanted == ["none", "none", "last", "last", "last"]


def test_engine_reads_a_bounded_piece_of_a_prompt_beside_a_running_answer() -> None:
    runner = ToyRunner(window=2000, chunk=512, batch=3)
    engine = Engine(runner)
    add(engine, 4, 0, 50)
    engine.step()
    add(engine, 300, 1, 2)
    add(engine, 30, 2, 2)
    drain(engine)
    shared = [batch.counts for batch in runner.batches if max(batch.counts) > 1][1:]
    assert shared == [[1, MIXED_PROMPT_TOKENS]] * 4 + [[1, 300 - 4 * MIXED_PROMPT_TOKENS, 20], [1, 1, 10]]
    assert runner.batches[1].chunks[0].sequence == 0, "the running answer comes first"


def test_engine_books_shared_steps_for_what_each_request_did() -> None:
    ticks = iter(range(10_000))
    engine = Engine(ToyRunner(window=2000, chunk=512, batch=2), clock=lambda: float(next(ticks)))
    answering = add(engine, 4, 0, 6)
    engine.step()
    reading = add(engine, 2 * MIXED_PROMPT_TOKENS, 1, 2)
    events = drain(engine)
    stats = events[answering][-1].stats
    assert stats is not None and (stats.prefill_tokens, stats.decode_tokens) == (4, 5)
    stats = events[reading][-1].stats
    assert stats is not None and (stats.prefill_tokens, stats.decode_tokens) == (2 * MIXED_PROMPT_TOKENS, 1)
    assert stats.prefill_seconds == 2 and stats.decode_seconds == 1


# -- stores that cannot go back by a token


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(0, 6)), min_size=1, max_size=7),
    st.integers(1, 4), st.sampled_from([1, 5, 16]), st.sampled_from([16, 20, 33, 1000]), st.sampled_from([0, 8]),
)  # fmt: skip
def test_engine_over_a_store_with_snapshots_changes_no_answer(
    jobs: list[tuple[int, int, int]], batch: int, chunk: int, pages: int, grain: int
) -> None:
    check_jobs(ToyRunner(chunk=chunk, batch=batch, pages=pages, grain=grain), jobs)


@pytest.mark.parametrize(("grain", "kept"), [(1, 11), (8, 8), (0, 0)])
def test_engine_computes_again_what_a_store_could_not_keep(grain: int, kept: int) -> None:
    runner = ToyRunner(grain=grain)
    engine = Engine(runner)
    sequence = engine.open_sequence()
    first = add(engine, 9, 0, 6, sequence)
    reply = answer(drain(engine)[first])
    longer = [*prompt_of(9), *reply[:2], 49, 48]
    second = engine.add(Request(prompt=longer, sampling=GREEDY, max_tokens=3, sequence=sequence))
    events = drain(engine)[second]
    assert answer(events) == greedy_reference(longer, 3)
    stats = events[-1].stats
    assert stats is not None and (stats.reused_tokens, stats.prefill_tokens) == (kept, len(longer) - kept)
    assert engine.cached_tokens(sequence) == (*longer, *answer(events)[:2])


@pytest.mark.parametrize("grain", [0, 8])
def test_engine_slides_over_a_store_with_snapshots(grain: int) -> None:
    def events_of(grain: int) -> list[Event]:
        engine = Engine(ToyRunner(window=16, chunk=4, grain=grain))
        prompt = prompt_of(10)
        request = engine.add(Request(prompt=prompt, sampling=GREEDY, max_tokens=40, on_context_full="slide", protect=3))
        return drain(engine)[request]

    assert answer(events_of(grain)) == answer(events_of(1))


@pytest.mark.parametrize("at", range(5))
@pytest.mark.parametrize("grain", [0, 8])
def test_engine_mends_a_store_with_snapshots(at: int, grain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt after the forward pass leaves tokens in the store, and taking back one may take back more."""
    engine = Engine(ToyRunner(chunk=4, grain=grain))
    request = add(engine, 6, 0, 6)
    collected: list[Event] = []
    for step in range(60):
        if step == at:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Engine, "_postprocess", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
                engine.step()
        collected += engine.step()
    assert {event.request for event in collected} == {request}
    assert answer(collected) == greedy_reference(prompt_of(6), 6)
