"""The engine on a toy model in numpy: scheduling, batching, a full context, cancelling, interrupts, figures."""

from __future__ import annotations

from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runner import GREEDY, VOCAB, ToyRunner, answer, check_jobs, drain, greedy_reference, prompt_of, toy_logits

from argosy.runtime_bindings.engine.batch import Batch
from argosy.runtime_bindings.engine.device import HostLogits
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.request import Event, Request
from argosy.support.errors import ContextFullError, RequestError


def test_engine_answers_like_the_model_alone() -> None:
    engine = Engine(ToyRunner())
    request = engine.add(Request(prompt=prompt_of(5), sampling=GREEDY, max_tokens=7))
    events = drain(engine)[request]
    assert answer(events) == greedy_reference(prompt_of(5), 7)
    assert [e.finish for e in events] == [None] * 6 + ["length"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(0, 6)), min_size=1, max_size=7),
    st.integers(1, 4), st.sampled_from([1, 5, 16]), st.sampled_from([16, 20, 33, 1000]),
)  # fmt: skip
def test_engine_batches_chunks_and_preempts_without_changing_answers(
    jobs: list[tuple[int, int, int]], batch: int, chunk: int, pages: int
) -> None:
    """Requests arrive at different times and share few pages and a small chunk; answers are as if computed alone."""
    check_jobs(ToyRunner(chunk=chunk, batch=batch, pages=pages), jobs)


def test_engine_prefills_several_prompts_at_once_and_decodes_them_together() -> None:
    runner = ToyRunner(chunk=16, batch=3)
    engine = Engine(runner)
    for seed, length in enumerate((6, 6, 6, 2)):
        engine.add(Request(prompt=prompt_of(length, seed), sampling=GREEDY, max_tokens=3))
    drain(engine)
    assert runner.calls[:2] == [("prefill", (6, 6, 4)), ("prefill", (2,))]
    assert runner.calls[2] == ("decode", (0, 1, 2))
    assert ("prefill", (2,)) in runner.calls[3:], "the fourth waits for a place in the batch"


def test_engine_seed_gives_the_same_answer_in_any_company() -> None:
    params = SamplingParams(temperature=1, seed=11, min_p=0)
    alone = Engine(ToyRunner())
    first = alone.add(Request(prompt=prompt_of(4), sampling=params, max_tokens=12))
    expected = answer(drain(alone)[first])
    crowd = Engine(ToyRunner())
    for seed in range(1, 3):
        crowd.add(Request(prompt=prompt_of(9, seed), sampling=params.replace(temperature=2, seed=seed), max_tokens=9))
    second = crowd.add(Request(prompt=prompt_of(4), sampling=params, max_tokens=12))
    assert answer(drain(crowd)[second]) == expected


def test_engine_stops_at_a_stop_token_which_is_not_part_of_the_answer() -> None:
    expected = greedy_reference(prompt_of(5), 20)
    stop = expected[6]
    engine = Engine(ToyRunner())
    request = engine.add(Request(prompt=prompt_of(5), sampling=GREEDY, stop_tokens=frozenset({stop})))
    events = drain(engine)[request]
    assert answer(events) == expected[: expected.index(stop)]
    assert events[-1].finish == "stop" and events[-1].token == stop


def test_engine_ends_with_a_full_context() -> None:
    """A window of 16 computes 16 positions, and the last of them still yields a token."""
    engine = Engine(ToyRunner(window=16))
    request = engine.add(Request(prompt=prompt_of(5), sampling=GREEDY))
    events = drain(engine)[request]
    assert events[-1].finish == "context"
    assert answer(events) == greedy_reference(prompt_of(5), 12)


def test_engine_slides_exactly() -> None:
    """After a slide, the answer continues as if the prompt were the protected tokens and the kept half."""
    window, protect, prompt = 16, 3, prompt_of(10)
    engine = Engine(ToyRunner(window=window, chunk=4))
    request = engine.add(
        Request(prompt=prompt, sampling=GREEDY, max_tokens=40, on_context_full="slide", protect=protect)
    )
    events = drain(engine)[request]
    tokens, expected = list(prompt), []
    for _ in range(40):
        if len(tokens) > window:
            tokens = tokens[:protect] + tokens[len(tokens) - (window - protect) // 2 :]
        expected.append(int(np.argmax(toy_logits(tokens))))
        tokens.append(expected[-1])
    assert answer(events) == expected
    assert events[-1].finish == "length" and events[-1].stats is not None
    assert events[-1].stats.prefill_tokens > len(prompt)


def test_engine_with_too_few_pages_ends_or_slides_and_never_hangs() -> None:
    for choice, reason in (("stop", "context"), ("slide", "length")):
        engine = Engine(ToyRunner(pages=3, window=64))
        request = engine.add(Request(prompt=prompt_of(6), sampling=GREEDY, max_tokens=30, on_context_full=choice))
        assert drain(engine)[request][-1].finish == reason


def test_engine_cancels_waiting_and_running_requests() -> None:
    runner = ToyRunner(batch=1)
    engine = Engine(runner)
    running = engine.add(Request(prompt=prompt_of(3), sampling=GREEDY))
    waiting = engine.add(Request(prompt=prompt_of(4), sampling=GREEDY))
    other = engine.add(Request(prompt=prompt_of(5), sampling=GREEDY, max_tokens=4))
    for _ in range(3):
        engine.step()
    for request in (running, waiting):
        event = engine.cancel(request)
        assert event is not None and event.finish == "cancelled" and event.stats is not None
        assert engine.cancel(request) is None
    assert answer(drain(engine)[other]) == greedy_reference(prompt_of(5), 4)
    assert runner.store.content == {}


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RuntimeError("out of memory")])
@pytest.mark.parametrize("at", range(6))
def test_engine_goes_on_after_a_step_that_was_cut_off(failure: BaseException, at: int) -> None:
    runner = ToyRunner(chunk=4)
    engine = Engine(runner)
    requests = [engine.add(Request(prompt=prompt_of(6, s), sampling=GREEDY, max_tokens=6)) for s in range(2)]
    events: dict[int, list[Event]] = {request: [] for request in requests}
    for step in range(200):
        if step == at:
            runner.fail = failure
            with pytest.raises(type(failure)):
                engine.step()
        for event in engine.step():
            events[event.request].append(event)
    for seed, request in enumerate(requests):
        assert answer(events[request]) == greedy_reference(prompt_of(6, seed), 6)


@pytest.mark.parametrize("at", range(5))
def test_engine_mends_tokens_that_were_computed_and_never_sampled(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt between forward pass and sampler leaves tokens in the store that were not sampled from."""
    engine = Engine(ToyRunner(chunk=4))
    request = engine.add(Request(prompt=prompt_of(6), sampling=GREEDY, max_tokens=6))
    collected: list[Event] = []
    for step in range(60):
        if step == at:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Engine, "_postprocess", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
                engine.step()
        collected += engine.step()
    assert [e.request for e in collected] == [request] * len(collected)
    assert answer(collected) == greedy_reference(prompt_of(6), 6)


def test_engine_keeps_an_open_sequence_and_computes_only_what_is_new() -> None:
    runner = ToyRunner()
    engine = Engine(runner)
    sequence = engine.open_sequence()
    first = engine.add(Request(prompt=prompt_of(8), sampling=GREEDY, max_tokens=4, sequence=sequence))
    reply = answer(drain(engine)[first])
    assert engine.cached_tokens(sequence) == (*prompt_of(8), *reply[:3])
    longer = [*prompt_of(8), *reply[:2], 1, 2, 3]
    second = engine.add(Request(prompt=longer, sampling=GREEDY, max_tokens=3, sequence=sequence))
    events = drain(engine)[second]
    assert answer(events) == greedy_reference(longer, 3)
    stats = events[-1].stats
    assert stats is not None and stats.reused_tokens >= 10 and stats.reused_tokens + stats.prefill_tokens == len(longer)
    again = engine.add(Request(prompt=longer, sampling=GREEDY, max_tokens=1, sequence=sequence))
    stats = drain(engine)[again][-1].stats
    assert stats is not None and stats.prefill_tokens == 1, "the last token is computed again for its logits"
    engine.close_sequence(sequence)
    assert runner.store.content == {}


def test_engine_takes_pages_back_from_idle_sequences() -> None:
    runner = ToyRunner(pages=6)
    engine = Engine(runner)
    kept = engine.open_sequence()
    drain_id = engine.add(Request(prompt=prompt_of(14), sampling=GREEDY, max_tokens=2, sequence=kept))
    drain(engine)
    other = engine.add(Request(prompt=prompt_of(20), sampling=GREEDY, max_tokens=3))
    assert answer(drain(engine)[other]) == greedy_reference(prompt_of(20), 3)
    assert engine.cached_tokens(kept) == () and drain_id == 0
    again = engine.add(Request(prompt=prompt_of(14), sampling=GREEDY, max_tokens=2, sequence=kept))
    assert answer(drain(engine)[again]) == greedy_reference(prompt_of(14), 2)


def test_engine_refuses_a_sequence_in_use() -> None:
    engine = Engine(ToyRunner())
    sequence = engine.open_sequence()
    engine.add(Request(prompt=[1], sequence=sequence))
    with pytest.raises(RequestError, match="in use"):
        engine.add(Request(prompt=[1], sequence=sequence))
    with pytest.raises(RequestError, match="not open"):
        engine.add(Request(prompt=[1], sequence=99))


def test_engine_figures_count_tokens_and_time() -> None:
    ticks = iter(range(10_000))
    engine = Engine(ToyRunner(chunk=4), clock=lambda: float(next(ticks)))
    request = engine.add(Request(prompt=prompt_of(10), sampling=GREEDY, max_tokens=5))
    stats = drain(engine)[request][-1].stats
    assert stats is not None
    assert (stats.reused_tokens, stats.prefill_tokens, stats.decode_tokens) == (0, 10, 4)
    assert stats.prefill_seconds == 3 and stats.decode_seconds == 4, "one tick a step"
    assert stats.decode_rate == 1.0 and stats.prefill_rate == pytest.approx(10 / 3)
    assert stats.first_token_seconds > 0


def test_engine_one_broken_request_spares_the_others() -> None:
    runner = ToyRunner()
    engine = Engine(runner)
    banned = {token: float("-inf") for token in range(VOCAB)}
    broken = engine.add(Request(prompt=prompt_of(3), sampling=SamplingParams(temperature=0, logit_bias=banned)))
    good = engine.add(Request(prompt=prompt_of(5), sampling=GREEDY, max_tokens=4))
    events = drain(engine)
    assert events[broken][-1].finish == "error" and events[broken][-1].error is not None
    assert answer(events[good]) == greedy_reference(prompt_of(5), 4)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"prompt": []}, RequestError, "at least one token"),
        ({"prompt": [1, VOCAB]}, RequestError, f"`prompt={VOCAB}`"),
        ({"prompt": [1, -1]}, RequestError, "`prompt=-1`"),
        ({"prompt": [1] * 65}, ContextFullError, "`65` tokens"),
        ({"max_tokens": 0}, RequestError, "max_tokens"),
        ({"on_context_full": "burst"}, RequestError, "stop or slide"),
        ({"on_context_full": "slide", "protect": 64}, RequestError, "protect"),
        ({"sampling": SamplingParams(logit_bias={VOCAB: 1.0})}, RequestError, "logit_bias"),
        ({"sampling": SamplingParams(suppress_tokens=[VOCAB])}, RequestError, "suppress_tokens"),
        ({"sampling": SamplingParams(bad_words_ids=[[1, VOCAB]])}, RequestError, "bad_words_ids"),
    ],
)
def test_engine_refuses_requests_that_the_model_cannot_do(
    changes: dict[str, object], error: type[Exception], words: str
) -> None:
    engine = Engine(ToyRunner(window=64))
    with pytest.raises(error, match=words):
        engine.add(Request(**{"prompt": [1, 2], **changes}))
    assert not engine.has_work


def test_a_prompt_larger_than_the_cache_is_refused_though_the_window_would_hold_it() -> None:
    """At once and with a hint, also if the context may slide; one that just fits is answered."""
    runner = ToyRunner(window=64, pages=5)
    engine = Engine(runner)
    for how in ("stop", "slide"):
        with pytest.raises(ContextFullError, match="the prompt has `21` tokens, and the KV cache holds 20") as caught:
            engine.add(Request(prompt=prompt_of(21), sampling=GREEDY, on_context_full=how))
        assert caught.value.hint
    assert not engine.has_work and runner.store.content == {}
    fits = engine.add(Request(prompt=prompt_of(20), sampling=GREEDY))
    events = drain(engine)[fits]
    assert answer(events) == greedy_reference(prompt_of(20), 1) and events[-1].finish == "context"


def test_another_thread_is_refused_at_once() -> None:
    runner = ToyRunner()
    engine = Engine(runner)
    sequence = engine.open_sequence()
    request = engine.add(Request(prompt=prompt_of(5), sampling=GREEDY, max_tokens=3))
    refused: list[str] = []
    calls = (
        engine.step, engine.open_sequence, lambda: engine.close_sequence(sequence), lambda: engine.cancel(request),
        lambda: engine.add(Request(prompt=prompt_of(4), sampling=GREEDY)),
    )  # fmt: skip

    def intrude() -> None:
        for call in calls:
            with pytest.raises(RequestError, match="in use in another thread") as caught:
                call()
            refused.append(caught.value.message)

    def forward(batch: Batch) -> HostLogits:
        del runner.forward
        thread = Thread(target=intrude)
        thread.start()
        thread.join(60)
        return runner.forward(batch)

    runner.forward = forward  # type: ignore[method-assign]
    assert answer(drain(engine)[request]) == greedy_reference(prompt_of(5), 3)
    assert len(refused) == len(calls)


@pytest.mark.parametrize("failure", [MemoryError, KeyboardInterrupt, RuntimeError])
def test_a_sampler_that_fails_leaves_requests_as_they_were(failure: type[BaseException]) -> None:
    """The tokens that were computed are computed again, and every answer is the one without the failure."""
    runner = ToyRunner(batch=3)
    engine = Engine(runner)
    prompts = [prompt_of(5), prompt_of(20, 1), prompt_of(9, 2)]
    ids = [engine.add(Request(prompt=prompt, sampling=GREEDY, max_tokens=12)) for prompt in prompts]
    original, calls = engine._sampler.sample, 0

    def sample(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise failure
        return original(*arguments)  # type: ignore[arg-type]

    engine._sampler.sample = sample  # type: ignore[method-assign, assignment]
    events: dict[int, list[Event]] = {}
    failed = 0
    while engine.has_work:
        try:
            for event in engine.step():
                events.setdefault(event.request, []).append(event)
        except failure:
            failed += 1
    assert failed > 3
    assert [answer(events[identity]) for identity in ids] == [greedy_reference(prompt, 12) for prompt in prompts]
