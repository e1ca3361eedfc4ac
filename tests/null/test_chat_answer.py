"""An answer alone, on events made by hand: text, stop strings, log-probabilities, every way to end."""

from __future__ import annotations

import json

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from argosy.runtime_bindings.chat.answer import Answer
from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.runtime_bindings.engine.request import Event, FinishReason, RequestStats
from argosy.runtime_bindings.engine.sampler import TokenLogprob
from argosy.support.errors import RequestError

STATS = RequestStats(decode_tokens=3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token for each byte, spelled as GPT-2 does; token ids are bytes."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    names = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": None, "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {"type": "WordLevel", "vocab": {names[byte]: byte for byte in range(256)}, "unk_token": "!"},
    }  # fmt: skip
    return Tokenizer(FastTokenizer.from_str(json.dumps(content)))


def event(token: int | None = None, finish: FinishReason | None = None, logprob: TokenLogprob | None = None) -> Event:
    return Event(7, token, logprob, finish, None if finish is None else STATS)


def fed(tokenizer: Tokenizer, text: str, **settings: object) -> tuple[Answer, list[str]]:
    """An answer that has received the bytes of `text`, and the pieces that it returned."""
    answer = Answer(tokenizer, GenerationConfig(**settings), 5)  # type: ignore[arg-type]
    return answer, [answer.add(event(byte)) for byte in text.encode()]


def test_text_comes_in_whole_characters_and_ends_as_a_reply(tokenizer: Tokenizer) -> None:
    answer, pieces = fed(tokenizer, "né")
    assert pieces == ["n", "", "é"] and not answer.ended
    assert answer.add(event(ord("!"), "length")) == "!" and answer.ended and not answer.stopped
    reply = answer.reply
    assert (reply.text, reply.finish_reason, reply.prompt_tokens, reply.stats) == ("né!", "length", 5, STATS)
    assert reply.tokens == tuple("né!".encode()) and reply.logprobs == ()


def test_the_token_that_ends_an_answer_is_not_part_of_it(tokenizer: Tokenizer) -> None:
    answer, _ = fed(tokenizer, "ab")
    assert answer.add(event(ord("$"), "stop")) == ""
    assert (answer.reply.text, answer.reply.tokens) == ("ab", tuple(b"ab"))


def test_an_end_without_a_token_releases_what_was_held_back(tokenizer: Tokenizer) -> None:
    answer, pieces = fed(tokenizer, "ab#", stop=("##",))
    assert pieces == ["a", "b", ""]
    assert answer.add(event(finish="cancelled")) == "#"
    assert (answer.reply.text, answer.reply.finish_reason) == ("ab#", "cancelled")
    answer, _ = fed(tokenizer, "a")
    assert answer.add(event(0xC3, "context")) == "\ufffd", "half a character at the end"


def test_a_stop_string_ends_the_text_and_tells_the_caller(tokenizer: Tokenizer) -> None:
    answer, pieces = fed(tokenizer, "ab##", stop=["##", "zz"])
    assert pieces == ["a", "b", "", ""] and answer.stopped and not answer.ended
    assert answer.add(event(ord("c"))) == "", "tokens that were computed before the request was cancelled"
    assert answer.add(event(finish="cancelled")) == ""
    assert (answer.reply.text, answer.reply.finish_reason) == ("ab", "stop")


def test_a_closed_answer_keeps_what_was_passed_on(tokenizer: Tokenizer) -> None:
    answer, _ = fed(tokenizer, "ab#", stop=("##",))
    answer.close(event(finish="cancelled"))
    assert answer.ended and (answer.reply.text, answer.reply.tokens) == ("ab", tuple(b"ab#"))


def test_log_probabilities_come_with_their_tokens(tokenizer: Tokenizer) -> None:
    answer = Answer(tokenizer, GenerationConfig(logprobs=True), 1)
    logprobs = [TokenLogprob(byte, -0.5, ()) for byte in b"ab$"]
    for entry in logprobs[:2]:
        answer.add(event(entry.token, logprob=entry))
    answer.add(event(ord("$"), "stop", logprobs[2]))
    assert answer.reply.logprobs == tuple(logprobs[:2])


def test_an_error_is_kept_for_the_caller(tokenizer: Tokenizer) -> None:
    answer, _ = fed(tokenizer, "a")
    assert answer.error is None
    error = RequestError("the model returned `nan`")
    answer.add(Event(7, finish="error", stats=STATS, error=error))
    assert answer.ended and answer.error is error


def test_a_reply_needs_an_end(tokenizer: Tokenizer) -> None:
    answer, _ = fed(tokenizer, "a")
    with pytest.raises(AssertionError, match="has not ended"):
        answer.reply  # noqa: B018


def with_special(*added: tuple[str, bool]) -> Tokenizer:
    """One token for each byte, and then `added` ones, each with whether it is special."""
    fast = FastTokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_tokens([AddedToken(text, special=special, normalized=False) for text, special in added])
    return Tokenizer(fast)


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("<|turn|>", "hi<|end|>\n"),  # a whole special token
        ("<|turn|>user", "hi<|end|>\n"),  # one with text after it
        ("\n<|turn|>", "hi<|end|>"),
        ("<|end|>\n", "hi"),
        ("<|turn|><|end|>", "hi<|end|>\n<|turn|>user "),
        ("<call>", "hi<|end|>\n<|turn|>user <|turn|><|end|>"),  # an added token that is shown
        ("hi\n", ""),  # without special tokens: in the text that is shown
        ("<|turn", "hi<|end|>\n<|turn|>user <|turn|><|end|><call>!"),  # a part of a name is no stop string
    ],
)
def test_stop_strings_see_special_tokens_that_are_not_shown(stop: str, text: str) -> None:
    tokenizer = with_special(("<|turn|>", True), ("<|end|>", True), ("<call>", False))
    answer = Answer(tokenizer, GenerationConfig(stop=(stop,)), 1)
    for token in tokenizer.encode("hi<|end|>\n<|turn|>user <|turn|><|end|><call>!"):
        answer.add(event(token))
    answer.add(event(finish="length"))
    shown = text.replace("<|turn|>", "").replace("<|end|>", "")
    assert (answer.reply.text, answer.stopped) == (shown, stop != "<|turn")


def test_a_stop_string_that_is_one_token_ends_the_answer_by_its_id() -> None:
    """The first token of such an answer is decoded without its space, so that its text has no stop string."""
    steps: list[dict[str, object]] = [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]
    steps += [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
    content = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "pre_tokenizer": None,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}, "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": steps},
        "model": {"type": "WordLevel", "vocab": {"▁no": 0, "▁yes": 1, "?": 2}, "unk_token": "?"},
    }  # fmt: skip
    tokenizer = Tokenizer(FastTokenizer.from_str(json.dumps(content)))
    answer = Answer(tokenizer, GenerationConfig(stop=(" yes",)), 1)
    assert answer.add(event(0)) == "no" and not answer.stopped
    answer = Answer(tokenizer, GenerationConfig(stop=(" no",)), 1)
    assert answer.add(event(0)) == "" and answer.stopped
