"""One loaded model, several conversations: at once, in threads, abandoned, closed; one answer at a time in each."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tiny_chat import CHUNK, GREEDY, WINDOW, Interrupting

from argosy import ChatModule, LoadedModel
from argosy.runtime_bindings.engine.request import RequestStats
from argosy.support.errors import RequestError, UsageError


@pytest.fixture(scope="module")
def artefact(tiny_artefact: Callable[..., Path]) -> Path:
    return tiny_artefact(quantization="q0f32", context_window=WINDOW, prefill_chunk=CHUNK, max_batch=3)


@pytest.fixture
def chat(artefact: Path) -> ChatModule:
    return ChatModule(artefact)


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What calls return, or raise, each in a thread of its own."""
    results: list[object] = [None] * len(calls)

    def call(place: int) -> None:
        try:
            results[place] = calls[place]()
        except BaseException as error:
            results[place] = error

    threads = [Thread(target=call, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    return results


@pytest.mark.parametrize("max_batch", [1, 3])
def test_chat_module_conversations_share_a_model(artefact: Path, max_batch: int) -> None:
    """Turn by turn in one thread, and at once in several, each says what it would say alone."""
    questions = ["Hello", "Who are you?", "Name a river."]
    expected = []
    for question in questions:
        alone = ChatModule(artefact)
        expected.append([alone.generate(text, generation_config=GREEDY) for text in (question, "More")])
    model = LoadedModel.load(artefact, max_batch=max_batch)
    chats = [ChatModule(model) for _ in questions]
    first = [chat.generate(question, generation_config=GREEDY) for chat, question in zip(chats, questions, strict=True)]
    assert first == [answers[0] for answers in expected]
    calls = [lambda chat=chat: chat.generate("More", generation_config=GREEDY) for chat in chats]
    assert at_once(*calls) == [answers[1] for answers in expected]
    assert [len(chat.messages) for chat in chats] == [4, 4, 4]
    if max_batch == 3:
        assert all(chat.last.stats.reused_tokens > 0 for chat in chats), "there was room for all of them"
    assert chats[0].stats().weight_bytes == model.stats(RequestStats(), 0).weight_bytes


def test_chat_module_streams_of_one_model_may_alternate(artefact: Path) -> None:
    expected = [ChatModule(artefact).generate(text, generation_config=GREEDY) for text in ("Hello", "Why?")]
    for max_batch in (1, 2):
        model = LoadedModel.load(artefact, max_batch=max_batch)
        chats = ChatModule(model), ChatModule(model)
        left, right = (chat.generate(text, generation_config=GREEDY, stream=True)
                       for chat, text in zip(chats, ("Hello", "Why?"), strict=True))  # fmt: skip
        texts = ["", ""]
        for one, other in itertools.zip_longest(left, right, fillvalue=""):
            texts = [texts[0] + one, texts[1] + other]
        assert texts == expected


def test_chat_module_gives_one_answer_at_a_time(chat: ChatModule) -> None:
    """Of several threads one gets its answer, the others a sentence; afterwards the conversation is as that one left
    it."""
    endless = {"temperature": 0.0, "ignore_eos": True}
    questions = ["Hello", "Who are you?", "Name a river.", "Count to ten."]
    results = at_once(*(lambda text=text: chat.generate(text, generation_config=endless) for text in questions))
    refused = [result for result in results if isinstance(result, RequestError)]
    answers = [result for result in results if isinstance(result, str)]
    assert len(refused) + len(answers) == 4 and refused and answers, results
    assert all("already answering" in error.message and "\n" not in error.message for error in refused)
    assert len(chat.messages) == 2 * len(answers) and chat.messages[-1]["content"] in answers
    chat.reset_chat()
    assert chat.generate(questions[results.index(answers[0])], generation_config=endless) in answers


def test_chat_module_callback_may_look_and_cancel_but_not_answer(chat: ChatModule) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append((chat.stats().context_tokens, chat.messages))
        for call in (lambda: chat.generate("No", generation_config=GREEDY), chat.reset_chat):
            with pytest.raises(RequestError, match="already answering"):
                call()
        chat.cancel()

    text = chat.generate("Hello", Interrupting(look), {"temperature": 0.0, "ignore_eos": True})
    assert seen and seen[0][0] > 0 and seen[0][1] == []
    assert chat.last.finish_reason == "cancelled" and chat.messages[-1]["content"] == text


def test_chat_module_abandoned_stream_frees_the_conversation(chat: ChatModule) -> None:
    """A loop that is left, an iterator that is dropped, and one that only the garbage collector finds."""
    endless = {"temperature": 0.0, "ignore_eos": True}
    for _ in chat.generate("Hello", generation_config=endless, stream=True):
        break
    assert chat.last.finish_reason == "cancelled"
    pieces = chat.generate("More", generation_config=endless, stream=True)
    next(pieces)
    with pytest.raises(RequestError, match="already answering"):
        chat.generate("More", generation_config=GREEDY)
    with pytest.raises(RequestError, match="already answering"):
        chat.reset_chat()
    del pieces
    assert len(chat.messages) == 4
    chat.reset_chat()
    cycle: dict[str, object] = {"pieces": chat.generate("Again", generation_config=endless, stream=True)}
    cycle["self"] = cycle
    next(cycle["pieces"])  # type: ignore[call-overload]
    del cycle
    gc.collect()
    assert len(chat.messages) == 2
    never_begun = chat.generate("Then", generation_config=endless, stream=True)
    chat.generate("Now", generation_config=GREEDY)
    del never_begun
    assert len(chat.messages) == 4


def test_chat_module_closed_conversation_gives_its_memory_back(artefact: Path) -> None:
    model = LoadedModel.load(artefact, max_batch=2)
    store = model.engine._engine._store
    free = store.free_pages()
    with ChatModule(model) as chat:
        chat.generate("Hello", generation_config=GREEDY)
        assert store.free_pages() < free
        pieces = chat.generate("More", generation_config={"temperature": 0.0, "ignore_eos": True}, stream=True)
        said = next(pieces)
    assert store.free_pages() == free
    assert said + "".join(pieces) == chat.last.text and chat.last.finish_reason == "cancelled"
    for call in (lambda: chat.generate("Hello"), chat.stats, chat.reset_chat):
        with pytest.raises(RequestError, match="closed"):
            call()
    chat.close()
    other = ChatModule(model)
    other.generate("Hello", generation_config=GREEDY)
    assert store.free_pages() < free
    del other
    gc.collect()
    assert store.free_pages() == free, "a conversation that nobody holds any more"


@pytest.mark.parametrize("options", [{"threads": 1}, {"target": "cpu"}, {"context_window_size": 32},
                                     {"cache_packed": True}, {"device": "gpu"}])  # fmt: skip
def test_chat_module_over_a_loaded_model_takes_no_option_of_loading(artefact: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"`{next(iter(options))}` cannot be set"):
        ChatModule(LoadedModel.load(artefact), **options)


def test_chat_module_batch_beyond_what_was_built_is_refused(artefact: Path) -> None:
    for wrong in (0, 4, True, "2"):
        with pytest.raises(UsageError, match="max_batch"):
            LoadedModel.load(artefact, max_batch=wrong)  # type: ignore[arg-type]
