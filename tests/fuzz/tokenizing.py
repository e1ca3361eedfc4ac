"""Fuzz tokenizers: what is accepted encodes and decodes texts that are hard for one."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz.mutate import any_value, changed_bytes, changed_json
from fuzz.target import Files, Genome, Target, data_of, expect
from zoo.file_bytes import tiny_directory
from zoo.hostile_tokenizers import (
    EXPRESSIONS,
    Json,
    added,
    hostile_tokenizers,
    sequence,
    sound_tokenizers,
    split,
    tokenizer,
)

from argosy.model_defs.checkpoint.hf_tokenizer import tokenizer_files
from argosy.runtime_bindings.chat.tokenizer import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
PARTS = {
    "normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "post_processor": "processors",
    "decoder": "decoders",
}  # fmt: skip
LETTERS = "ab()[]{}|*+?^$\\.,0123pPLNswd-:=!<>&é▁ "
TEXTS = (
    "", "a ab b", "The quick  brown\n\n fox's 12345 <|end|> é日本🙂\r\n", "a" * 600 + "!", " " * 600 + "x",
    "\ufdfa" * 60, "".join(map(chr, range(1, 400))), "<|end|>é" * 20, "ab" * 200 + "\0",
)  # fmt: skip
LONGEST = 300  # tokens for each byte of a text: growth, and bytes that become tokens


def _sound() -> list[Json]:
    """Return small tokenizers that together have every kind of step."""
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spaces = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    bytes_ = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    begin = {"SpecialToken": {"id": "<|end|>", "type_id": 0}}
    frame = {
        "type": "TemplateProcessing", "single": [begin, text], "pair": [text],
        "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [3], "tokens": ["<|end|>"]}},
    }  # fmt: skip
    pieces = [["<unk>", 0.0], ["▁", -1.0], ["a", -2.0], ["▁the", -3.0], ["e", -2.5]]
    words = {"type": "WordPiece", "unk_token": "a", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return [
        tokenizer(
            pre_tokenizer=sequence("pretokenizers", split(GPT2), {**byte_level, "use_regex": False}),
            decoder=byte_level, post_processor=sequence("processors", byte_level, frame),
            added_tokens=[added("<|end|>")],
        ),
        tokenizer(
            model={"type": "BPE", "vocab": {"a": 0, "▁": 1, "▁a": 2, **bytes_}, "merges": [["▁", "a"]],
                   "byte_fallback": True, "fuse_unk": True, "unk_token": None},
            normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, {"type": "NFKC"}),
            decoder=sequence("decoders", spaces, {"type": "ByteFallback"}, {"type": "Fuse"}, strip),
        ),
        tokenizer(
            model={"type": "Unigram", "unk_id": 0, "vocab": pieces, "byte_fallback": False},
            pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, metaspace),
            normalizer={"type": "Nmt"}, decoder=metaspace,
        ),
        tokenizer(
            model={**words, "vocab": {"a": 0, "##b": 1, "the": 2}}, pre_tokenizer={"type": "BertPreTokenizer"},
            normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                        "strip_accents": None, "lowercase": True},
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
            post_processor={"type": "BertProcessing", "sep": ["a", 0], "cls": ["the", 2]},
        ),
        tokenizer(
            model={"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "a"},
            pre_tokenizer=sequence(
                "pretokenizers", {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "UnicodeScripts"},
                {"type": "WhitespaceSplit"}, {"type": "FixedLength", "length": 7},
            ),
            normalizer=sequence("normalizers", {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}),
        ),
    ]  # fmt: skip


def _seeds() -> list[bytes]:
    return [json.dumps(content, ensure_ascii=False).encode() for content in (*_sound(), *sound_tokenizers()[:-1])]


def _steps(value: object) -> Iterator[Json]:
    if isinstance(value, dict):
        if "type" in value:
            yield value
        for item in value.values():
            yield from _steps(item)
    elif isinstance(value, list):
        for item in value[:50]:
            yield from _steps(item)


def _steps_of(contents: list[Json]) -> list[Json]:
    return [step for content in contents for part in PARTS for step in _steps(content[part])]


SOUND = _steps_of(_sound())
HOSTILE = _steps_of([content for _, content, _ in hostile_tokenizers() if len(json.dumps(content)) < 5000])


def _step(rng: random.Random) -> Json:
    return copy.deepcopy(rng.choice(HOSTILE if rng.random() < 0.2 else SOUND))


def _changed(genome: Genome, rng: random.Random) -> Genome:
    """Change the steps of a tokenizer, or its JSON."""
    data = data_of(genome)
    if rng.random() < 0.3:
        return changed_json(data, rng)
    if rng.random() < 0.1:
        return changed_bytes(data, rng, len(data))
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError):
        return changed_bytes(data, rng, len(data))
    if not isinstance(content, dict):
        return changed_json(data, rng)
    part = rng.choice(list(PARTS))
    old = content.get(part)
    steps = list(_steps(old))
    match rng.randrange(4):
        case 0:
            content[part] = _step(rng)
        case 1:
            content[part] = sequence(PARTS[part], *([old] if old else []), _step(rng))
        case 2 if steps:
            step = rng.choice(steps)
            key = rng.choice(list(step))
            step[key] = _near_text(step[key], rng) if isinstance(step[key], str) else any_value(rng)
        case _:
            content[rng.choice(("normalizer", "pre_tokenizer"))] = split(
                _near_text(rng.choice((*EXPRESSIONS.values(), GPT2)), rng)
            )
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")


def _near_text(text: str, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        place = rng.randint(0, len(text))
        text = (
            text[:place]
            + rng.choice((rng.choice(LETTERS), "", text[place : place + 4]))
            + text[place + rng.randint(0, 1) :]
        )
    return text


def _files(genome: Genome) -> Files:
    return {**tiny_directory().files, "tokenizer.json": data_of(genome)}


def _use(path: Path) -> None:
    """Build and load the tokenizer, and use it."""
    files = tokenizer_files(path, {"model_type": "llama"})
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / f"merged-{name}").write_bytes(files[name])
    ours = Tokenizer.load(path / "merged-tokenizer.json", path / "merged-tokenizer_config.json")
    for text in TEXTS:
        for special in (False, True):
            ids = ours.encode(text, special)
            expect(ids == ours.encode(text, special), "one text in two ways")
            expect(len(ids) <= LONGEST * len(text.encode()) + 200, "a long encoding", len(ids))
            ours.decode(ids)
            detokenizer = ours.detokenizer()
            for token in ids[:100]:
                detokenizer.add(token)
            detokenizer.finish()


TOKENIZERS = (Target("tokenizer", 1, _seeds, _changed, _files, _use),)
