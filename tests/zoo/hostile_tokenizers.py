"""Tokenizers that no model needs: each would take hours, gigabytes or the process, or gives other tokens each time."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
BASE: Json = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None, "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
}  # fmt: skip


def tokenizer(**parts: object) -> Json:
    """Make a sound tokenizer with other parts."""
    return {**copy.deepcopy(BASE), **parts}


def model(**values: object) -> Json:
    return tokenizer(model={**BASE["model"], **values})


def replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def split(expression: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def sequence(key: str, *steps: Json) -> Json:
    return {"type": "Sequence", key: list(steps)}


def added(content: str, number: int = 3) -> Json:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": content, "special": True, **flags}


def nested(key: str, depth: int) -> Json:
    step: Json = {"type": "Lowercase"}
    for _ in range(depth):
        step = sequence(key, step)
    return step


def template(single: list[Json], special: Json | None = None) -> Json:
    return {"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": special or {}}


def charsmap(units: list[int], texts: bytes) -> Json:
    trie = b"".join(unit.to_bytes(4, "little") for unit in units)
    data = len(trie).to_bytes(4, "little") + trie + texts
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


def one_rule(text: bytes) -> Json:
    """Map the letter `a` to a text."""
    units = [0] * 256
    units[0] = 128 << 10  # children of the root are at 128 ^ label
    units[128 ^ ord("a")] = ord("a") | 1 << 8  # with its text at the place 128 ^ 97 itself ^ 0, see below
    place = 128 ^ ord("a")
    units[place] |= (place ^ 200) << 10
    units[200] = 1 << 31  # the text begins at 0
    return charsmap(units, text + b"\0")


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
BOMB = {"String": "a"}
EXPRESSIONS = {
    "star of a star": r"(a*)*b",
    "alternatives that overlap": r"(a|aa)+$",
    "stars in a row": r"\s*\s*\s*\S",
    "every letter, twice": r"(\w+\s?)+!",
    "a star before a loop": r"\s*(?:\s*x)+",
    "many choices": "a?" * 24 + "a" * 24,
    "nested counts": r"((a{50}){50}){50}",
    "large count": r"\p{L}{1,100000}",
    "back reference": r"(a+)\1b",
    "recursion": r"(?<n>a\g<n>?b)",
    "absence": r"(?~a)b",
    "condition": r"(a)?(?(1)b|c)",
    "look behind": r"(?<=a+)b",
    "look inside a star": r".*(?=.*x)",
    "stacked quantifiers": r"a{1,30}{1,30}{1,30}",
    "comment": r"(?x) a # b",
}


def hostile_tokenizers() -> Iterator[tuple[str, Json, str]]:
    """Yield the name of each, the parsed file, and words of the reason why it is refused."""
    for name, expression in EXPRESSIONS.items():
        yield f"split by {name}", tokenizer(pre_tokenizer=split(expression)), "the regular expression"
        if name in ("star of a star", "recursion"):
            yield f"replace {name}", tokenizer(normalizer=replace({"Regex": expression}, "a")), "the regular expression"
            yield f"decode {name}", tokenizer(decoder=replace({"Regex": expression}, "a")), "the regular expression"
    yield "replace bomb", tokenizer(normalizer=replace(BOMB, "a" * 65)), "a text of `65` characters"
    yield "huge replacement", tokenizer(normalizer=replace(BOMB, "a" * 10**6)), "a text of `1000000` characters"
    chain = [replace(BOMB, "aaaa")] * 4
    yield "chain of replacements", tokenizer(normalizer=sequence("normalizers", *chain)), "`256` times as long"
    yield "decoder chain", tokenizer(decoder=sequence("decoders", *chain)), "`256` times as long"
    across = {
        "normalizer": replace(BOMB, "aaaa"),
        "pre_tokenizer": sequence("pretokenizers", *[{"type": "ByteLevel"}] * 5),
    }
    yield "growth across parts", tokenizer(**across), "`128` times as long"
    yield "replace nothing", tokenizer(normalizer=replace({"Regex": "x*"}, "ab")), "a `Replace` of nothing"
    yield "replace empty text", tokenizer(normalizer=replace({"String": ""}, "ab")), "no text of 1 to"
    yield "two patterns", tokenizer(normalizer=replace({"String": "a", "Regex": "b"}, "")), "neither a text nor"
    yield "prepend", tokenizer(normalizer={"type": "Prepend", "prepend": "a" * 10**6}), "a text of `1000000` characters"
    yield "many steps", tokenizer(normalizer=sequence("normalizers", *[{"type": "NFC"}] * 500)), "steps, more than"
    yield (
        "many normal forms",
        tokenizer(normalizer=sequence("normalizers", *[{"type": "NFKD"}] * 9)),
        "normalizes texts",
    )
    yield "deep", tokenizer(normalizer=nested("normalizers", 30)), "nested more than 4 deep"
    yield "deep pre-tokenizer", tokenizer(pre_tokenizer=nested("pretokenizers", 20)), "nested more than 4 deep"
    yield "unknown step", tokenizer(pre_tokenizer={"type": "Python", "code": "1"}), "the pre_tokenizer `Python`"
    yield "step without type", tokenizer(normalizer={"pattern": BOMB, "content": "a"}), "which has no type"
    yield "step of audio", tokenizer(decoder={"type": "CTC", "pad_token": "a", "word_delimiter_token": "b"}), "`CTC`"
    yield "strip", tokenizer(decoder={"type": "Strip", "content": "a", "start": 2**40, "stop": 0}), "a `Strip` with"
    yield "no length", tokenizer(pre_tokenizer={"type": "FixedLength", "length": 0}), "which is not a length"
    yield "template that repeats", tokenizer(post_processor=template([TEXT] * 60)), "repeats the text"
    yield "long template", tokenizer(post_processor=template([{"SpecialToken": {"id": "a"}}] * 9999)), "at most 64"
    ids = {"a": {"id": "a", "ids": [0] * 10**5, "tokens": ["a"]}}
    yield "template of many tokens", tokenizer(post_processor=template([TEXT], ids)), "special tokens"
    yield "end that is no token", tokenizer(post_processor={"type": "BertProcessing", "sep": ["a", -1]}), "not a token"
    yield "chance", model(dropout=0.5), "`dropout` is `0.5`"
    yield "little chance", model(dropout=1e-9), "`dropout`"
    cut = {"type": "BPE", "vocab": {"a": 0, "é": 1, "aé": 2}, "merges": [["a", "é"]], "continuing_subword_prefix": "a"}
    yield "prefix that cuts a character", tokenizer(model=cut), "`continuing_subword_prefix` of BPE"
    yield "long suffix", model(end_of_word_suffix="a" * 10**5), "`end_of_word_suffix`"
    pieces = {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "#", "vocab": {"a": 0}}
    yield "long words", tokenizer(model={**pieces, "max_input_chars_per_word": 10**9}), "cuts words"
    yield "large number", model(vocab={"a": 0, "b": 2**32 - 1}), "the number `4294967295`"
    yield "number that is none", model(vocab={"a": 0.5}), "the number `0.5`"
    yield "no vocabulary", model(vocab={}), "no vocabulary"
    yield "many merges", model(merges=["a b"] * 100), "`100` merges for `3` tokens"
    yield "unknown model", model(type="Neural"), "the model `Neural`"
    yield "no model", tokenizer(model=None), "no model"
    unigram: Json = {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b", -1.0]]}
    yield "unknown piece", tokenizer(model={**unigram, "unk_id": 7}), "its unknown token"
    yield (
        "long pieces",
        tokenizer(model={**unigram, "vocab": [["a" * n, -1.0] for n in range(1, 2000, 500)]}),
        "the piece",
    )
    yield "piece without score", tokenizer(model={**unigram, "vocab": [["a", None]]}), "the piece"
    yield "long added token", tokenizer(added_tokens=[added("a" * 10**5)]), "`100000` characters"
    yield "many added tokens", tokenizer(added_tokens=[added(f"<{i}>", 3 + i) for i in range(40000)]), "at most 32768"
    yield "added token of no kind", tokenizer(added_tokens=["a"]), "among its added tokens"
    yield "map of characters", tokenizer(normalizer=one_rule(b"a" * 1000)), "`1000` times as long"
    yield "map into a character", tokenizer(normalizer=one_rule("点".encode()[1:])), "inside a character"
    yield "map outside", tokenizer(normalizer=charsmap([(1 << 20) << 10], b"\0")), "outside of it"
    yield "map that is none", tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": "!"}), "not base64"
    yield "empty map", tokenizer(normalizer={"type": "Precompiled", "precompiled_charsmap": ""}), "no trie"


def sound_tokenizers() -> list[Json]:
    """Return tokenizers with steps that models use. All encode `ab` as one token, 2."""
    return [
        model(dropout=None),
        model(dropout=0.0),
        model(continuing_subword_prefix="", end_of_word_suffix=""),
        tokenizer(padding={"strategy": {"Fixed": 10**9}, "direction": "Left", "pad_id": 0}, truncation=7),
        tokenizer(normalizer=replace({"String": " "}, "▁")),
        tokenizer(normalizer=replace({"Regex": " {2,}"}, " ")),
        tokenizer(normalizer=one_rule(b"a")),
        tokenizer(pre_tokenizer=split(r"\d{1,3}(?=(?:\d{3})*\b)")),
        tokenizer(pre_tokenizer=split(r"(?=(\d{3})+(?!\d))")),
        tokenizer(pre_tokenizer=split(r"[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}")),
        tokenizer(pre_tokenizer=split(r" ?[^(\s|[.,!?…。])]+")),
        tokenizer(pre_tokenizer=split(r"[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+$")),
        tokenizer(added_tokens=[added(f"<unused{i}>", 3 + i) for i in range(8000)]),
    ]
