"""Streamed text: whole characters only, the same text in the end, and stop strings across tokens."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from tokenizers import Tokenizer as FastTokenizer

from argosy.runtime_bindings.chat.detokenizer import ByteDetokenizer, WindowDetokenizer
from argosy.runtime_bindings.chat.stops import StopStrings
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.support.errors import ArtefactError

SPECIAL = {"id": 0, "content": "<|end|>", "special": True, "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False}  # fmt: skip
ADDED = {**SPECIAL, "id": 1, "content": "<tool call>", "special": False}


def gpt2_characters() -> list[str]:
    """Return the characters for the bytes 0 to 255, computed as in GPT-2's own code."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table, extra = {}, 0
    for byte in range(256):
        table[byte] = chr(byte) if byte in plain else chr(256 + extra)
        extra += byte not in plain
    return [table[byte] for byte in range(256)]


def byte_level() -> Tokenizer:
    """Make a byte-level tokenizer with single bytes, some pairs that split characters, and words."""
    characters = gpt2_characters()
    tokens = ["<|end|>", "<tool call>", *characters]
    merged = ["é".encode(), "日本".encode()[:4], "日本".encode()[4:], b" the", "🙂".encode()[1:3], b"  ", b"\n\n"]
    tokens += ["".join(characters[byte] for byte in text) for text in merged]
    return build({"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}, tokens)


def sentencepiece(strip: bool) -> Tokenizer:
    tokens = ["<|end|>", "<tool call>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "▁the", "é", "日本", "a", "▁▁", "b"]
    spaces = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    steps: list[dict[str, object]] = [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]
    steps += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if strip else []
    return build({"type": "Sequence", "decoders": steps}, tokens)


def wordpiece() -> Tokenizer:
    tokens = ["<|end|>", "<tool call>", "the", "##re", "##s", "cat", ".", "'", "un", "é"]
    return build({"type": "WordPiece", "prefix": "##", "cleanup": True}, tokens)


def build(decoder: dict[str, object], tokens: list[str]) -> Tokenizer:
    model = {"type": "WordLevel", "vocab": {token: i for i, token in enumerate(tokens)}, "unk_token": "<|end|>"}
    content = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [SPECIAL, ADDED],
               "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": decoder,
               "model": model}  # fmt: skip
    return Tokenizer(FastTokenizer.from_str(json.dumps(content)))


BYTE_LEVEL, SENTENCEPIECE, STRIPPING, WORDPIECE = byte_level(), sentencepiece(False), sentencepiece(True), wordpiece()
EVERY = {"byte level": BYTE_LEVEL, "sentencepiece": SENTENCEPIECE, "stripping": STRIPPING, "wordpiece": WORDPIECE}


def stream(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer()
    return [*(detokenizer.add(token) for token in tokens), detokenizer.finish()]


@pytest.mark.parametrize("name", ["byte level", "sentencepiece", "stripping"])
@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="aé日本🙂 \n\u200d\ufffdñ", max_size=12), data=st.data())
def test_chat_text_is_the_same_for_every_split_into_tokens(name: str, text: str, data: st.DataObject) -> None:
    """However tokens divide the bytes, they stream to the same text, and every piece has whole characters."""
    tokenizer = EVERY[name]
    by_bytes = {token: tokenizer.bytes_of(token) for token in range(1, 270) if tokenizer.bytes_of(token)}
    left, tokens = text.encode(), []
    while left:
        token = data.draw(st.sampled_from([t for t, b in by_bytes.items() if left.startswith(b)]))
        tokens.append(token)
        left = left[len(by_bytes[token]) :]
    pieces = stream(tokenizer, tokens)
    expected = text[1:] if name == "stripping" and text.startswith(" ") else text
    assert "".join(pieces) == expected == tokenizer.decode(tokens)
    if _REPLACEMENT not in text:
        assert not any(_REPLACEMENT in piece for piece in pieces), "half a character was shown"


_REPLACEMENT = "\ufffd"


@pytest.mark.parametrize("name", ["byte level", "wordpiece"])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_chat_text_of_any_tokens_is_what_the_tokenizer_decodes(name: str, data: st.DataObject) -> None:
    """Even for random bytes, and with special tokens in between."""
    tokenizer = EVERY[name]
    tokens = data.draw(st.lists(st.integers(0, 264 if name == "byte level" else 9), max_size=20))
    assert "".join(stream(tokenizer, tokens)) == tokenizer.decode(tokens)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_chat_text_window_gives_what_bytes_give(data: st.DataObject) -> None:
    """The general method agrees with the exact one on a tokenizer that has both."""
    tokens = BYTE_LEVEL.encode("")
    for character in data.draw(st.text(alphabet="aé日🙂 ", max_size=8)):
        tokens += [byte + 2 for byte in character.encode()]
    window = WindowDetokenizer(BYTE_LEVEL.decode)
    pieces = [*(window.add(token) for token in tokens), window.finish()]
    assert pieces == stream(BYTE_LEVEL, tokens)


def test_chat_text_takes_the_exact_way_where_it_knows_it() -> None:
    kinds = {name: type(tokenizer.detokenizer()) for name, tokenizer in EVERY.items()}
    assert kinds.pop("wordpiece") is WindowDetokenizer
    assert set(kinds.values()) == {ByteDetokenizer}


def test_chat_text_comes_as_soon_as_a_character_is_whole() -> None:
    tokens = [byte + 2 for byte in "é🙂".encode()]
    assert stream(BYTE_LEVEL, tokens) == ["", "é", "", "", "", "🙂", ""]
    assert stream(BYTE_LEVEL, tokens[:-1])[-1] == _REPLACEMENT, "bytes that never became a character"


def test_chat_text_leaves_special_tokens_out_and_names_them() -> None:
    assert stream(BYTE_LEVEL, [0, 2 + ord("a"), 0, 1]) == ["", "a", "", "<tool call>", ""]
    assert BYTE_LEVEL.bytes_of(0) == b"" and BYTE_LEVEL.text_of(0) == "<|end|>"
    assert BYTE_LEVEL.bytes_of(10**6) == b"" and BYTE_LEVEL.id_of("<|end|>") == 0 and BYTE_LEVEL.id_of("no") is None


@pytest.mark.parametrize("text", ["<français>", "đem", "če", "Ġ", "naïve ¡", "<|ünd|>"])
def test_chat_text_of_an_added_token_is_its_own_text(text: str) -> None:
    """Also if its letters are those that stand for bytes."""
    fast = FastTokenizer.from_str(BYTE_LEVEL._fast.to_str())
    fast.add_tokens([AddedToken(text, normalized=False)])
    tokenizer = Tokenizer(fast)
    (token,) = tokenizer.encode(text)
    assert "".join(stream(tokenizer, [token])) == tokenizer.decode([token]) == tokenizer.text_of(token) == text


def test_chat_text_is_neither_cut_nor_padded(tmp_path: Path) -> None:
    """Whatever truncation and padding the tokenizer was saved with."""
    fast = FastTokenizer.from_str(BYTE_LEVEL._fast.to_str())
    whole = Tokenizer(FastTokenizer.from_str(fast.to_str())).encode("<tool call><tool call><|end|><tool call>")
    fast.enable_truncation(max_length=2)
    fast.enable_padding(length=8, pad_to_multiple_of=16)
    fast.save(str(tmp_path / "tokenizer.json"))
    for tokenizer in (Tokenizer.load(tmp_path / "tokenizer.json"), Tokenizer(fast)):
        assert tokenizer.encode("<tool call><tool call><|end|><tool call>") == whole
        assert len(tokenizer.encode("<|end|>")) == 1


def test_chat_text_special_tokens_of_the_config() -> None:
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None, "add_bos_token": True}
    tokenizer = Tokenizer(FastTokenizer.from_str(json.dumps(json.loads(BYTE_LEVEL._fast.to_str()))), config)
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer.config["extra_special_tokens"] = {"image_token": "<i>", "boi": {"content": "<b>"}}
    assert tokenizer.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "image_token": "<i>", "boi": "<b>"}


def test_chat_text_broken_tokenizer_files_are_refused(tmp_path: object) -> None:
    directory = Path(str(tmp_path))
    good, bad, listed = directory / "good.json", directory / "bad.json", directory / "list.json"
    good.write_text(BYTE_LEVEL._fast.to_str())
    bad.write_text('{"model": ')
    listed.write_text("[]")
    for tokenizer, config in ((bad, None), (directory / "none.json", None), (good, bad), (good, listed)):
        with pytest.raises(ArtefactError) as caught:
            Tokenizer.load(tokenizer, config)
        assert "\n" not in caught.value.message
    assert Tokenizer.load(good).decode([2 + ord("a")]) == "a"


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ab#\n", max_size=16),
    st.lists(st.text(alphabet="ab#\n", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(0, 16), max_size=6),
)
def test_chat_text_stop_strings_wherever_the_pieces_end(text: str, stops: list[str], cuts: list[int]) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    matcher = StopStrings(stops)
    given_out = ""
    for start, end in pairwise(places):
        given_out += matcher.add(text[start:end])
        assert not any(stop in given_out for stop in stops)
    given_out += matcher.finish()
    first_end = min((text.find(stop) + len(stop) for stop in stops if stop in text), default=None)
    if first_end is None:
        assert given_out == text and matcher.found is None
    else:
        assert matcher.found is not None
        assert text.startswith(given_out + matcher.found) and not any(stop in given_out for stop in stops)


def test_chat_text_holds_back_no_more_than_it_must() -> None:
    matcher = StopStrings(["\nUser:"])
    assert matcher.add("Hello\nUs") == "Hello"
    assert matcher.add("ually") == "\nUsually"
    assert matcher.add("\nUser:") == "" and matcher.found == "\nUser:" and matcher.add("more") == ""
