"""Python as users write it: keyword settings, names, with, repr, event loops, and sentences for what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import os
import pickle
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_chat import CHUNK, GREEDY, WINDOW

import argosy
from argosy import ArgosyError, ChatModule, GenerationConfig, LoadedModel, StreamIterator, StreamToStdout
from argosy.support.errors import RequestError, UsageError

ENDLESS = {"temperature": 0.0, "ignore_eos": True, "max_tokens": None}


@pytest.fixture(scope="module")
def artefact(tiny_artefact: Callable[..., Path]) -> Path:
    return tiny_artefact(quantization="q0f32", context_window=WINDOW, prefill_chunk=CHUNK, max_batch=3)


@pytest.fixture(scope="module")
def model(artefact: Path) -> Iterator[LoadedModel]:
    with LoadedModel.load(artefact, max_batch=2) as model:
        yield model


@pytest.fixture
def chat(model: LoadedModel) -> Iterator[ChatModule]:
    with ChatModule(model) as chat:
        yield chat


# -- calls


def test_settings_are_keywords_on_top_of_a_configuration(chat: ChatModule) -> None:
    text = chat.generate("Hello", temperature=0, max_tokens=12)
    chat.reset_chat()
    assert chat.generate("Hello", generation_config=GREEDY) == text
    chat.reset_chat()
    assert "".join(chat.stream("Hello", GREEDY, max_tokens=5)) == text[:5]
    chat.reset_chat()
    config = GenerationConfig(temperature=0, max_tokens=12)
    assert chat.generate("Hello", generation_config=config, stop=text[3:6]) == text[: text.index(text[3:6])]


@pytest.mark.parametrize(
    ("settings", "hint"),
    [({"temprature": 1}, "temperature"), ({"max_new_tokens": 3}, "max_tokens"), ({"temp": 1}, "temperature"),
     ({"repeat_penalty": 1.1}, "repetition_penalty"), ({"num_predict": 3}, "max_tokens")],
)  # fmt: skip
def test_an_unknown_setting_names_the_one_that_was_meant(chat: ChatModule, settings: dict, hint: str) -> None:
    for call in (lambda: chat.generate("x", **settings), lambda: chat.generate("x", generation_config=settings)):
        with pytest.raises(RequestError, match=f"`{next(iter(settings))}` is not a generation setting") as caught:
            call()
        assert f"`{hint}`" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda path: ChatModule(path, sytem="x"), "`sytem` is not an option of a model.*`system`"),
        (lambda path: LoadedModel.load(path, n_threads=1), "`n_threads` is not an option of a model.*`threads`"),
        (lambda path: ChatModule(7), "`7` is not a model"),
        (lambda path: ChatModule(None), "`None` is not a model"),
        (lambda path: ChatModule(path, device=5), "`device=5` is not allowed"),
        (lambda path: ChatModule(path, target=[]), r"`target=\[\]` is not allowed"),
        (lambda path: ChatModule("smollm2-135n"), "`smollm2-135n`.*did you mean `smollm2-135m"),
        (lambda path: ChatModule(""), "`` is not a model"),
        (lambda path: argosy.build(7), "`model=7` is not allowed"),
        (lambda path: argosy.build("smollm2-135m", target=5), "`target=5` is not allowed"),
        (lambda path: argosy.build("smollm2-135m", target=["cpu", 5]), "`target=.* is not allowed"),
        (lambda path: argosy.build("smollm2-135m", quantization=[]), r"`quantization=\[\]` is not allowed"),
        (lambda path: argosy.build("smollm2-135m", context_window="8k"), "`context_window=8k` is not allowed"),
        (lambda path: argosy.build("smollm2-135m", max_batch=True), "`max_batch=True` is not allowed"),
        (lambda path: argosy.build("smollm2-135m", output=""), "`output=` is not allowed"),
        (lambda path: argosy.build("smollm2-135m", quantisation="q4f16_1"), "`quantisation`.*`quantization`"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_sentence(artefact: Path, call: Callable[[Path], object], words: str) -> None:
    with pytest.raises(ArgosyError, match=f"(?s){words}") as caught:
        call(artefact)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("prompt", [7, None, b"bytes", {"role": "user", "content": "x"}, [], ["x"], "half \ud83d",
                                    [{"role": "user"}], [{"role": "king", "content": "x"}],
                                    [{"role": "user", "content": [{"type": "image_url"}]}]])  # fmt: skip
def test_a_prompt_that_is_none_is_refused_before_anything_is_computed(chat: ChatModule, prompt: object) -> None:
    with pytest.raises(RequestError):
        chat.stream(prompt)  # type: ignore[arg-type]
    with pytest.raises(RequestError):
        chat.generate(prompt, template_variables={"messages": []})  # type: ignore[arg-type]
    assert chat.messages == [] and chat.last is None


def test_parts_of_text_are_text(chat: ChatModule) -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    assert chat.generate([{"role": "user", "content": parts}], generation_config=GREEDY) is not None
    assert [message["role"] for message in chat.messages] == ["user", "assistant"]


def test_a_model_is_found_by_its_name(artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-model-q0f32").symlink_to(artefact)
    monkeypatch.setenv("ARGOSY_DIST", str(tmp_path))
    monkeypatch.chdir("/")
    with ChatModule("my-model-q0f32") as chat:
        assert chat.generate("Hello", generation_config=GREEDY)


def test_the_report_of_a_build_is_the_artefact(artefact: Path, tmp_path: Path) -> None:
    """`argosy.build` is a function and a package, and reports to an object."""
    from argosy.build import STAGES, BuildReport, BuildRequest, build, prepare

    assert callable(build) and callable(prepare) and BuildRequest and len(STAGES) == 3
    report = BuildReport(artefact, "tiny", "q0f32", ("cpu",), (), 0.0, True, ())
    with ChatModule(report) as chat:
        assert chat.artefact.directory == artefact
    stages: list[str] = []

    class Watching:
        def report(self, stage: str, done: int, total: int, unit: str = "steps") -> None:
            stages.append(stage)

    with pytest.raises(ArgosyError, match="no_such_scheme"):
        argosy.build("smollm2-135m", quantization="no_such_scheme", output=tmp_path / "x", progress=Watching())
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("callback", [5, {"temperature": 0}, "print"])
def test_a_callback_must_be_callable(chat: ChatModule, callback: object) -> None:
    """Settings in its place are the likeliest mistake."""
    with pytest.raises(RequestError, match="`progress_callback`") as caught:
        chat.generate("Hello", callback)  # type: ignore[arg-type]
    assert "keyword" in (caught.value.hint or "") and chat.messages == []


# -- objects


@pytest.mark.parametrize("send", [copy.copy, copy.deepcopy, pickle.dumps])
def test_what_holds_a_part_of_the_cache_is_neither_copied_nor_sent(
    chat: ChatModule, send: Callable[[object], object]
) -> None:
    for thing in (chat, chat.model, chat.stream("Hello")):
        with pytest.raises(RequestError, match="cannot be copied"):
            send(thing)
    config = chat.default_config
    assert send(config) and pickle.loads(pickle.dumps(config)) == config


def test_public_objects_say_what_they_are(artefact: Path) -> None:
    model = LoadedModel.load(artefact)
    chat = ChatModule(model)
    assert repr(model) == f"<LoadedModel {artefact.name}, a window of {WINDOW} tokens>"
    assert repr(chat) == f"<ChatModule {artefact.name}, 0 messages>"
    stream = chat.stream("Hello", ENDLESS)
    assert "not begun" in repr(stream)
    first = next(stream)
    assert "under way" in repr(stream) and first in repr(stream) and "answering" in repr(chat)
    stream.close()
    assert "ended" in repr(stream) and "2 messages" in repr(chat)
    assert "completes texts" in repr(ChatModule(model, chat=False))
    assert repr(chat.last).startswith("Reply(") and len(repr(chat.last)) < 300
    chat.close()
    assert "closed" in repr(chat)
    model.close()
    assert "closed" in repr(model) and "closed" in repr(model.engine)
    assert repr(chat.artefact) == f"<Artefact {artefact}>" and repr(chat.tokenizer) == "<Tokenizer of 258 tokens>"
    assert repr(model.template).startswith("<ChatTemplate for ")
    assert repr(StreamToStdout(3)) == "StreamToStdout(callback_interval=3)"
    assert repr(StreamIterator()) == "StreamIterator(callback_interval=2)"


def test_closing_a_model_ends_its_answers_and_refuses_the_next(artefact: Path) -> None:
    model = LoadedModel.load(artefact)
    chat = ChatModule(model)
    stream = chat.stream("Hello", ENDLESS)
    said = next(stream)
    model.close()
    model.close()
    assert "".join(stream) == "" and chat.last is not None and chat.last.finish_reason == "cancelled"
    assert chat.last.text == said
    for call in (lambda: chat.generate("Hello"), lambda: ChatModule(model), chat.stats, lambda: model.context_window):
        with pytest.raises(RequestError, match="closed"):
            call()
    chat.close()


def test_a_conversation_closes_the_model_that_only_it_uses(artefact: Path) -> None:
    first = ChatModule(artefact)
    second = ChatModule(first.model)
    first.close()
    assert second.generate("Hello", generation_config=GREEDY)
    second.close()
    assert not first.model.engine.closed, "it was not loaded for the second one"
    with ChatModule(artefact) as alone:
        runner = weakref.ref(alone.model._runner)
    assert alone.model.engine.closed
    gc.collect()
    assert runner() is None, "weights and KV cache are freed, although the module is there still"


def test_a_question_put_earlier_sees_what_was_said_meanwhile(chat: ChatModule) -> None:
    later = chat.stream("Then", generation_config=GREEDY)
    chat.generate("Now", generation_config=GREEDY)
    "".join(later)
    assert [message["content"] for message in chat.messages[::2]] == ["Now", "Then"]


def test_a_second_reader_is_refused_at_once(chat: ChatModule) -> None:
    """Here within a callback, which the first reader waits for."""
    stream = chat.stream("Hello", ENDLESS)
    original = stream._turn.engine.advance

    def advance(ticket: object) -> object:
        with pytest.raises(RequestError, match="being read by another"):
            next(stream)
        return original(ticket)  # type: ignore[arg-type]

    stream._turn.engine.advance = advance  # type: ignore[method-assign]
    try:
        assert next(stream)
    finally:
        del stream._turn.engine.advance
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)
    assert stream.reply.finish_reason == "cancelled"


def test_a_consumer_in_another_thread_ends_when_the_question_is_refused(chat: ChatModule) -> None:
    pieces = StreamIterator()
    with pytest.raises(RequestError):
        chat.generate("x", pieces, temperature=-1)
    assert list(pieces) == [] and list(pieces) == []
    text = chat.generate("Hello", pieces, GREEDY)
    assert "".join(pieces) == text


# -- event loops


def test_an_event_loop_goes_on_while_a_model_answers(chat: ChatModule) -> None:
    expected = chat.generate("Hello", generation_config=ENDLESS)
    chat.reset_chat()
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0)

    async def talk() -> str:
        ticking = asyncio.create_task(tick())
        gathered = [piece async for piece in chat.stream("Hello", ENDLESS)]
        ticking.cancel()
        assert all(gathered), "no piece is empty"
        return "".join(gathered)

    assert asyncio.run(talk()) == expected
    assert len(ticks) > 100, "the loop ran between the steps"


def test_tasks_share_a_model(model: LoadedModel) -> None:
    questions = ["Hello", "Who are you?", "Name a river."]
    chats = [ChatModule(model) for _ in questions]
    alone = [chat.generate(text, generation_config=GREEDY) for chat, text in zip(chats, questions, strict=True)]
    for chat in chats:
        chat.reset_chat()

    async def ask() -> list[str]:
        calls = [chat.agenerate(text, GREEDY) for chat, text in zip(chats, questions, strict=True)]
        return await asyncio.gather(*calls)

    assert asyncio.run(ask()) == alone


@pytest.mark.parametrize("how", ["break", "task", "timeout", "aclose", "with", "error"])
def test_an_answer_that_is_left_ends_and_the_next_one_is_right(chat: ChatModule, how: str) -> None:
    expected = chat.generate("Hello", generation_config=GREEDY)
    chat.reset_chat()
    began = asyncio.Event()

    async def read() -> None:
        async for _ in chat.stream("Hello", ENDLESS):
            began.set()
            if how == "error":
                raise ZeroDivisionError
            if how == "break":
                break

    async def leave() -> None:
        if how in ("break", "error"):
            with contextlib.suppress(ZeroDivisionError):
                await read()
        elif how == "aclose":
            stream = chat.stream("Hello", ENDLESS)
            await anext(stream)
            await stream.aclose()
            assert stream.reply.finish_reason == "cancelled"
        elif how == "with":
            async with chat.stream("Hello", ENDLESS) as stream:
                await anext(stream)
        elif how == "timeout":
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(chat.agenerate("Hello", ENDLESS, logit_bias={}), 0.001)
        else:
            task = asyncio.create_task(read())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gc.collect()
        chat.reset_chat()
        assert await chat.agenerate("Hello", GREEDY) == expected

    asyncio.run(leave())
    assert len(chat.messages) == 2


def test_a_second_task_is_refused_at_once(chat: ChatModule) -> None:
    async def both() -> list[object]:
        calls = (chat.agenerate("Hello", GREEDY), chat.agenerate("Hello", GREEDY))
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second = asyncio.run(both())
    assert isinstance(first, str) and isinstance(second, RequestError) and "already answering" in second.message


# -- processes


FORK = """
import os, sys, gc
from argosy import ChatModule
chat = ChatModule({path!r})
stream = chat.stream("Hello", temperature=0, ignore_eos=True, max_tokens=None)
next(stream)
child = os.fork()
if child == 0:
    for call in (lambda: next(stream), lambda: chat.generate("Hello"), lambda: ChatModule(chat.model), chat.stats):
        try:
            call()
        except Exception as error:
            print(type(error).__name__, "cannot be used in its fork" in str(error), flush=True)
    chat.cancel()
    chat.close()
    del stream, chat
    gc.collect()
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(len("".join(stream)) > 10, chat.last.finish_reason)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_is_refused_and_harms_nothing(artefact: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK.format(path=str(artefact))],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout.splitlines() == [*["RequestError True"] * 4, "3", "True context"]


def test_a_program_may_end_while_its_model_computes(artefact: Path) -> None:
    code = f"""
import threading
from argosy import ChatModule
chat = ChatModule({str(artefact)!r})
stream = chat.stream("Hello", ignore_eos=True)
next(stream)
threading.Thread(target=list, args=(stream,), daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_threads_is_checked_like_any_option(artefact: Path) -> None:
    with pytest.raises(UsageError, match="threads"):
        ChatModule(artefact, threads=0)
