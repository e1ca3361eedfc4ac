"""ChatModule and the engine on a tiny compiled model: conversations, reuse, batches, sliding, cancelling, imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from tiny_chat import CHUNK, GREEDY, WINDOW, Interrupting

from argosy import ArgosyError, ChatModule, GenerationConfig, StreamIterator, StreamToStdout
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.library_runner import LibraryRunner, kv_bytes
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.request import Event, Request
from argosy.support.errors import ArtefactError, ContextFullError, RequestError, TargetError, UsageError


@pytest.fixture(scope="module")
def artefact(tiny_artefact: Callable[..., Path]) -> Path:
    return tiny_artefact(quantization="q0f32", context_window=WINDOW, prefill_chunk=CHUNK, max_batch=3)


@pytest.fixture
def chat(artefact: Path) -> ChatModule:
    return ChatModule(artefact)


def runner_of(artefact: Path, **more: int) -> LibraryRunner:
    from argosy.dist.artefact import open_artefact

    opened = open_artefact(artefact)
    library = load_library(opened)
    return LibraryRunner(library, load_weights(opened, library), **more)


def alone(artefact: Path, prompt: list[int], count: int, chunk: int = CHUNK) -> list[int]:
    """Generate greedy tokens without engine, batches or reuse."""
    runner = runner_of(artefact)
    runner.store.add(0)
    for start in range(0, len(prompt), chunk):
        logits = runner.forward(Batch([Chunk(0, prompt[start : start + chunk])])).numpy()
    tokens = [int(np.argmax(logits[0]))]
    while len(tokens) < count:
        tokens.append(int(np.argmax(runner.forward(Batch([Chunk(0, tokens[-1:])])).numpy()[0])))
    return tokens


def drain(engine: Engine) -> dict[int, list[Event]]:
    events: dict[int, list[Event]] = {}
    while engine.has_work:
        for event in engine.step():
            events.setdefault(event.request, []).append(event)
    return events


def prompt_of(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


def test_chat_module_talks_in_turns_and_computes_only_what_is_new(chat: ChatModule, artefact: Path) -> None:
    first = chat.generate("Hello", generation_config=GREEDY)
    assert chat.last is not None and chat.last.finish_reason in ("length", "stop") and chat.last.text == first
    second = chat.generate("And you?", generation_config=GREEDY)
    assert [m["role"] for m in chat.messages] == ["user", "assistant"] * 2
    assert chat.last.stats.reused_tokens > 0
    assert chat.last.stats.reused_tokens + chat.last.stats.prefill_tokens == chat.last.prompt_tokens
    fresh = ChatModule(artefact)
    question = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": first},
                {"role": "user", "content": "And you?"}]  # fmt: skip
    assert fresh.generate(question, generation_config=GREEDY) == second, "reuse changes nothing"
    assert fresh.messages == chat.messages


def test_chat_module_forgets_the_conversation(chat: ChatModule) -> None:
    first = chat.generate("Hello", generation_config=GREEDY)
    chat.reset_chat()
    assert chat.messages == [] and chat.last is None
    assert chat.generate("Hello", generation_config=GREEDY) == first
    chat.reset_chat(system="Be brief.")
    chat.generate("Hello", generation_config=GREEDY)
    with_system = chat.last.prompt_tokens
    chat.reset_chat()
    chat.generate("Hello", generation_config=GREEDY)
    assert chat.last.prompt_tokens == with_system, "the system prompt stays"
    chat.reset_chat(system="")
    assert chat.generate("Hello", generation_config=GREEDY) == first
    assert chat.last.prompt_tokens < with_system


def test_chat_module_streams_the_same_text(chat: ChatModule, capsys: pytest.CaptureFixture[str]) -> None:
    expected = chat.generate("Hello", generation_config=GREEDY)
    chat.reset_chat()
    assert "".join(chat.generate("Hello", generation_config=GREEDY, stream=True)) == expected
    chat.reset_chat()
    assert chat.generate("Hello", StreamToStdout(callback_interval=3), GREEDY) == expected
    assert capsys.readouterr().out == expected + "\n"
    chat.reset_chat()
    pieces = StreamIterator(callback_interval=2)
    thread = Thread(target=chat.generate, args=("Hello", pieces, GREEDY))
    thread.start()
    assert "".join(pieces) == expected
    thread.join()


def test_chat_module_stops_at_a_stop_string(chat: ChatModule) -> None:
    whole = chat.generate("Hello", generation_config={"temperature": 0.0, "max_tokens": 30, "ignore_eos": True})
    stop = whole[4:7]
    chat.reset_chat()
    text = chat.generate("Hello", generation_config={"temperature": 0.0, "max_tokens": 30, "stop": [stop]})
    assert text == whole[: whole.index(stop)] and chat.last.finish_reason == "stop"
    assert chat.messages[-1]["content"] == text


def test_chat_module_takes_a_list_as_the_whole_conversation(artefact: Path) -> None:
    """Its system prompt applies until the conversation is reset to the original one."""
    chat = ChatModule(artefact, system="Be brief.")
    own = chat.generate("Hello", generation_config=GREEDY)
    question = [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": "Hello"}]
    answer = chat.generate(question, generation_config=GREEDY)
    assert chat.messages == [question[1], {"role": "assistant", "content": answer}]
    following = chat.generate("Go on", generation_config=GREEDY)
    whole = [*question, {"role": "assistant", "content": answer}, {"role": "user", "content": "Go on"}]
    assert ChatModule(artefact).generate(whole, generation_config=GREEDY) == following
    chat.reset_chat()
    assert chat.generate("Hello", generation_config=GREEDY) == own


def test_chat_module_cancelled_answer_stays_and_the_next_one_is_right(chat: ChatModule, artefact: Path) -> None:
    callback = Interrupting(chat.cancel)
    text = chat.generate("Hello", callback, {"temperature": 0.0, "ignore_eos": True})
    assert chat.last.finish_reason == "cancelled" and 1 <= len(chat.last.tokens) <= 4 and callback.stopped == 1
    assert chat.messages[-1] == {"role": "assistant", "content": text}
    answer = chat.generate("More", generation_config=GREEDY)
    fresh = ChatModule(artefact)
    assert fresh.generate(chat.messages[:3], generation_config=GREEDY) == answer


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_chat_module_interrupted_answer_leaves_no_trace(chat: ChatModule, error: type[BaseException]) -> None:
    def fail() -> None:
        raise error

    expected = chat.generate("Hello", generation_config=GREEDY)
    chat.reset_chat()
    callback = Interrupting(fail)
    with pytest.raises(error):
        chat.generate("Hello", callback, GREEDY)
    assert chat.messages == [] and chat.last is None and callback.stopped == 1
    assert chat.generate("Hello", generation_config=GREEDY) == expected


def test_chat_module_closed_stream_counts_as_cancelled(chat: ChatModule) -> None:
    endless = {"temperature": 0.0, "ignore_eos": True}
    pieces: Iterator[str] = chat.generate("Hello", generation_config=endless, stream=True)
    said = next(pieces) + next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert chat.last.finish_reason == "cancelled" and chat.messages[-1]["content"] == said
    chat.generate("More", generation_config=GREEDY)


def test_chat_module_full_context_stops_or_slides(chat: ChatModule) -> None:
    endless = GenerationConfig(temperature=0.0, ignore_eos=True)
    chat.generate("Hello", generation_config=endless)
    assert chat.last.finish_reason == "context"
    assert chat.last.prompt_tokens + len(chat.last.tokens) == WINDOW + 1
    with pytest.raises(ContextFullError, match="context window holds 128"):
        chat.stream("More", generation_config=endless)  # at the call, before a server has begun its response
    assert len(chat.messages) == 2, "a refused question leaves no trace"
    sliding = endless.replace(on_context_full="slide", max_tokens=2 * WINDOW)
    chat.generate("More", generation_config=sliding)
    assert chat.last.finish_reason == "length" and len(chat.last.tokens) == 2 * WINDOW
    with pytest.raises(ContextFullError, match="the question with the system prompt"):
        chat.generate("x" * 200, generation_config=sliding)


def test_chat_module_logprobs_and_seed(chat: ChatModule) -> None:
    settings = {"temperature": 1.0, "max_tokens": 8, "seed": 5, "logprobs": True, "top_logprobs": 2, "ignore_eos": True}
    chat.generate("Hello", generation_config=settings)
    first = chat.last
    assert len(first.logprobs) == len(first.tokens) == 8
    assert all(entry.token == token and entry.logprob <= 0 and len(entry.top) == 2
               for entry, token in zip(first.logprobs, first.tokens, strict=True))  # fmt: skip
    chat.reset_chat()
    chat.generate("Hello", generation_config=settings)
    assert chat.last.tokens == first.tokens


def test_chat_module_figures(chat: ChatModule) -> None:
    chat.generate("Hello", generation_config={**GREEDY, "ignore_eos": True})
    stats = chat.stats()
    assert stats.answer.prefill_tokens == chat.last.prompt_tokens and stats.answer.decode_tokens == 11
    assert stats.memory.peak >= stats.memory.resident > stats.weight_bytes > 0
    assert stats.context_tokens == chat.last.prompt_tokens + 11 and stats.context_window == WINDOW
    assert (stats.target, stats.activations, stats.kv_dtype) == ("cpu", "f32", "float16")
    assert stats.library.endswith("-cpu.so") and stats.threads >= 1
    words = ("prefill: ", "tok/s", "decode: ", "time to first token: ", "memory: ", "library: cpu (f32", "thread")
    for word in words:
        assert word in str(stats)
    assert json.loads(json.dumps(stats.to_json()))["answer"]["decode_rate"] > 0


def test_chat_module_without_template_completes(artefact: Path) -> None:
    plain = ChatModule(artefact, chat=False)
    assert plain.completes_only and plain.messages == []
    prompt = list(b"Once upon")
    expected = alone(artefact, plain.tokenizer.encode("Once upon"), 10)
    plain.generate("Once upon", generation_config={"temperature": 0.0, "max_tokens": 10, "ignore_eos": True})
    assert list(plain.last.tokens) == expected and len(prompt) == plain.last.prompt_tokens
    plain.generate("", generation_config=GREEDY)
    assert plain.last.prompt_tokens == 1, "an empty text begins with the token that begins texts"
    for wrong in (lambda: plain.generate([{"role": "user", "content": "x"}]), lambda: plain.reset_chat("Be brief."),
                  lambda: ChatModule(artefact, chat=False, system="x")):  # fmt: skip
        with pytest.raises(RequestError, match="no chat template"):
            wrong()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda path: ChatModule(path / "none"), ArtefactError),
        (lambda path: ChatModule(path, device="tpu"), TargetError),
        (lambda path: ChatModule(path, threads=0), UsageError),
        (lambda path: ChatModule(path, threads=4096), UsageError),
        (lambda path: ChatModule(path, context_window_size=WINDOW + 1), UsageError),
        (lambda path: ChatModule(path, target="gpu"), ArtefactError),
        (lambda path: ChatModule(path).generate("x", generation_config={"heat": 1}), RequestError),
        (lambda path: ChatModule(path).generate("x", generation_config={"temperature": -1}), RequestError),
        (lambda path: ChatModule(path).generate("x", generation_config={"logit_bias": {9999: 1.0}}), RequestError),
        (lambda path: ChatModule(path).generate("x", generation_config=7), RequestError),
        (lambda path: ChatModule(path).generate(7), RequestError),
        (lambda path: ChatModule(path).generate("x", StreamToStdout(0)), UsageError),
    ],
)
def test_chat_module_refuses_in_one_sentence(artefact: Path, call: object, error: type[ArgosyError]) -> None:
    with pytest.raises(error) as caught:
        call(artefact)  # type: ignore[operator]
    assert "\n" not in caught.value.message and "`" in caught.value.message


def test_chat_module_smaller_window_takes_less_memory(artefact: Path) -> None:
    small = ChatModule(artefact, context_window_size=32)
    small.generate("Hi", generation_config={"temperature": 0.0, "ignore_eos": True})
    assert small.last.finish_reason == "context" and small.stats().context_tokens == 32
    assert small.stats().kv_bytes < ChatModule(artefact).stats().kv_bytes


# -- the engine over the compiled model


def test_chat_engine_batches_give_what_single_requests_give(artefact: Path) -> None:
    """Prompts across page and chunk boundaries, prefilled and decoded together, with too few pages for all of them."""
    lengths = (5, 15, 16, 17, 40, 33)
    for total in (None, 96):
        engine = Engine(runner_of(artefact, max_batch=3, max_total_tokens=total or 3 * WINDOW))
        ids = [
            engine.add(Request(prompt=prompt_of(n, n), sampling=SamplingParams(temperature=0), max_tokens=20))
            for n in lengths
        ]
        events = drain(engine)
        for request, length in zip(ids, lengths, strict=True):
            tokens = [event.token for event in events[request] if event.token is not None]
            assert tokens == alone(artefact, prompt_of(length, length), 20), (total, length)
        assert engine._store.free_pages() == -(-(total or 3 * WINDOW) // 16) + 1, "every page came back"


def test_chat_engine_forks_and_pops_share_pages(artefact: Path) -> None:
    """Forks inside and at the end of a page continue as if computed alone, in any order of use."""
    prompt = prompt_of(40, 1)
    for at in (16, 20, 32, 40):
        runner = runner_of(artefact, max_batch=3)
        store = runner.store
        store.add(0)
        for start in range(0, 40, CHUNK):
            runner.forward(Batch([Chunk(0, prompt[start : start + CHUNK])]))
        store.fork(0, 1, at)
        logits = runner.forward(Batch([Chunk(1, [7]), Chunk(0, [9])])).numpy().copy()
        reference = runner_of(artefact)
        for sequence, tokens in enumerate(([*prompt[:at], 7], [*prompt, 9])):
            reference.store.add(sequence)
            for start in range(0, len(tokens), CHUNK):
                expected = reference.forward(Batch([Chunk(sequence, tokens[start : start + CHUNK])])).numpy()
            assert np.allclose(logits[sequence], expected[0], atol=1e-4)
            reference.store.remove(sequence)
        assert store.truncate(0, 10) == 10
        again = runner.forward(Batch([Chunk(0, prompt[10:11])])).numpy()
        reference.store.add(0)
        expected = reference.forward(Batch([Chunk(0, prompt[:11])])).numpy()
        assert np.allclose(again, expected, atol=1e-4)
        store.remove(0)
        store.remove(1)
        assert store.free_pages() == 3 * WINDOW // 16 + 1


def test_chat_engine_forward_that_fails_is_undone(artefact: Path) -> None:
    runner = runner_of(artefact)
    runner.store.add(0)
    runner.forward(Batch([Chunk(0, prompt_of(10, 1))]))
    working, runner._embed = runner._embed, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        runner.forward(Batch([Chunk(0, [3])]))
    assert runner.store.length(0) == 10
    runner._embed = working
    assert runner.forward(Batch([Chunk(0, [3])])).numpy().shape == (1, 258) and runner.store.length(0) == 11


def test_chat_engine_cache_that_cannot_be_cut_back_is_dropped(artefact: Path) -> None:
    """Every sequence is there still, of no token, and is computed again."""
    runner = runner_of(artefact, max_batch=3)
    engine = Engine(runner)
    kept = engine.open_sequence()
    ask = Request(prompt=prompt_of(20, 1), sampling=SamplingParams(temperature=0), max_tokens=4, sequence=kept)
    expected = alone(artefact, prompt_of(20, 1), 4)
    engine.add(ask)
    drain(engine)
    other = engine.add(Request(prompt=prompt_of(33, 2), sampling=SamplingParams(temperature=0), max_tokens=6))
    engine.step()
    store, working = runner.store, runner._prefill
    cut, store._pop = store._pop, lambda *_: (_ for _ in ()).throw(RuntimeError("no cut"))
    runner._prefill = lambda *_: (_ for _ in ()).throw(MemoryError())
    with pytest.raises(MemoryError):
        engine.step()
    assert engine.cached_tokens(kept) == () and store.free_pages() * 16 == store.capacity
    runner._prefill, store._pop = working, cut
    events = drain(engine)[other]
    assert [event.token for event in events if event.token is not None] == alone(artefact, prompt_of(33, 2), 6)
    request = engine.add(ask)
    assert [event.token for event in drain(engine)[request] if event.token is not None] == expected


def test_chat_engine_accounts_for_the_caches_memory(artefact: Path) -> None:
    runner = runner_of(artefact)
    assert runner.kv_bytes == kv_bytes(runner.library.metadata, WINDOW) == (WINDOW + 16) * 2 * 2 * 2 * 16 * 2
    assert runner.weight_bytes == sum(int(np.prod(shape)) * 4 for _, shape, _ in runner.library.metadata.params)


def test_chat_module_refuses_an_altered_library(artefact: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(artefact, tmp_path / "copy"))
    library = next(copy.glob("*.so"))
    data = bytearray(library.read_bytes())
    data[len(data) // 2] ^= 1
    library.write_bytes(data)
    with pytest.raises(ArtefactError, match=r"\.so"):
        ChatModule(copy)


RUN = """
import sys
sys.path[:0] = {paths!r}
{before}
from argosy import ChatModule
chat = ChatModule({path!r})
text = chat.generate("Hello", generation_config=dict(temperature=0.0, max_tokens=4))
ours = ("argosy.compiler", "argosy.quant", "argosy.model_defs")
heavy = ("torch", "transformers", "tvm.relax", "tvm.s_tir.dlight", *ours, "safetensors", "gguf")
print(*[name for name in heavy if name in sys.modules], sys.modules["tvm"].__file__, ascii(text), sep="|")
"""
RUNTIME_ONLY = "from argosy.runtime_bindings.engine.tvm_runtime import use_runtime_only; use_runtime_only()"


def run_alone(artefact: Path, before: str = "", paths: tuple[str, ...] = ()) -> list[str]:
    """Chat in a process of its own; return the heavy modules that it loaded, where tvm is, and the answer."""
    code = RUN.format(before=before, path=str(artefact), paths=list(paths))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|", maxsplit=12)


def test_chat_module_loads_neither_compiler_nor_torch(artefact: Path, chat: ChatModule) -> None:
    """The full TVM imports its relax package with `import tvm`; in runtime-only mode, not even that is loaded."""
    text = ascii(chat.generate("Hello", generation_config={"temperature": 0.0, "max_tokens": 4}))
    *loaded, _, said = run_alone(artefact)
    assert set(loaded) <= {"tvm.relax", "tvm.s_tir.dlight"} and said == text
    *loaded, _, said = run_alone(artefact, RUNTIME_ONLY)
    assert loaded == [] and said == text


def test_chat_module_runs_with_the_runtime_only_files_of_tvm(artefact: Path, tmp_path: Path) -> None:
    """With a TVM without its compiler's library, sources and headers, like a small installation."""
    import tvm

    installed, small = Path(tvm.__file__).parent, tmp_path / "site" / "tvm"
    (small / "lib").mkdir(parents=True)
    for item in installed.iterdir():
        if item.name not in ("lib", "relax", "3rdparty", "src", "include", "web", "__pycache__"):
            (small / item.name).symlink_to(item)
    library = next(installed.glob("lib/libtvm_runtime.*"))
    (small / "lib" / library.name).symlink_to(library)
    *loaded, place, text = run_alone(artefact, paths=(str(small.parent),))
    assert loaded == [] and place.startswith(str(small)) and len(text) > 2


def test_chat_import_argosy_loads_nothing() -> None:
    code = "import sys, argosy; print([m for m in ('tvm', 'torch', 'numpy', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(ImportError):
        from argosy import nothing  # noqa: F401
