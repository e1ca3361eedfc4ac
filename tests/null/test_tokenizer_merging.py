"""Added and special tokens, wherever a directory declares them, are those that transformers finds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from argosy.model_defs.checkpoint.hf_tokenizer import tokenizer_files
from argosy.runtime_bindings.chat.template import ChatTemplate
from argosy.runtime_bindings.chat.tokenizer import Tokenizer

Files = dict[str, dict[str, Any]]
FLAGS = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
END, PAD, TOOL = "<|end|>", "<pad>", "<tool>"
TEXTS = [f"x{END}", f"{END} {END}y", f"a {TOOL}b", f"{PAD}{END}", f"one<s>two{TOOL} ", "<|im|> no token", "Q qq"]
TEMPLATE = (
    "{{ bos_token }}|{{ eos_token }}|{{ pad_token }}|{{ unk_token }}|{{ tool_token }}|{{ turn }}|"
    "{{ messages[0].content }}{{ eos_token }}"
)


def token(content: str, **flags: bool) -> dict[str, Any]:
    return {"content": content, **FLAGS, **flags}


def base(in_vocabulary: bool, kind: str = "byte level") -> Files:
    """Make a directory with a small tokenizer. Its vocabulary may hold the words that are declared as tokens."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = (END, PAD, TOOL) if in_vocabulary else ()
    vocabulary |= {word: len(vocabulary) + i for i, word in enumerate(words)}
    if kind == "byte level":
        fast = FastTokenizer(models.BPE(vocabulary, []))
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        fast.decoder = decoders.ByteLevel()
    elif kind == "words":
        fast = FastTokenizer(models.WordLevel(vocabulary, unk_token="x"))
        fast.pre_tokenizer = pre_tokenizers.Whitespace()
    else:
        fast = FastTokenizer(models.Unigram([(piece, -1.0) for piece in vocabulary], unk_id=5))
        fast.pre_tokenizer = pre_tokenizers.Metaspace()
        fast.decoder = decoders.Metaspace()
    fast.add_special_tokens(["<s>"])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "chat_template": TEMPLATE}
    return {"tokenizer.json": json.loads(fast.to_str()), "tokenizer_config.json": config}


def stored(files: Files, content: str, **flags: bool) -> None:
    """Add a token to tokenizer.json, with the number that the library would give it."""
    tokenizer = files["tokenizer.json"]
    vocabulary, added = tokenizer["model"]["vocab"], tokenizer["added_tokens"]
    if isinstance(vocabulary, list):
        vocabulary = {piece: number for number, (piece, _) in enumerate(vocabulary)}
    number = vocabulary.get(content, max(len(vocabulary), 1 + max(entry["id"] for entry in added)))
    added.append({"id": number, **token(content, special=False, **flags)})
    added.sort(key=lambda entry: entry["id"])


def decoder(files: Files, content: str, **flags: bool) -> None:
    files["tokenizer_config.json"].setdefault("added_tokens_decoder", {})["700"] = token(content, **flags)


def setting(name: str, value: Any, file: str = "tokenizer_config.json") -> Callable[[Files], None]:
    def place(files: Files) -> None:
        files.setdefault(file, {})[name] = value

    return place


STEP = 3  # of the pairs, one in so many; 1 takes a minute
MAP = "special_tokens_map.json"
PADDING = {
    "strategy": {"Fixed": 12}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 3, "pad_type_id": 0,
    "pad_token": PAD,
}  # fmt: skip
TRUNCATION = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
PLACES: dict[str, Callable[[Files], None]] = {
    "eos": setting("eos_token", END),
    "eos as object": setting("eos_token", {"__type": "AddedToken", **token(END, special=True)}),
    "eos as an object that is not special": setting("eos_token", {"__type": "AddedToken", **token(END)}),
    "no eos": setting("eos_token", None),
    "map eos": setting("eos_token", END, MAP),
    "map eos as object": setting("eos_token", token(END, rstrip=True), MAP),
    "map pad and unk": lambda files: files.setdefault(MAP, {}).update(pad_token=PAD, unk_token=TOOL),
    "map list": setting("additional_special_tokens", [TOOL, END], MAP),
    "map extra": setting("extra_special_tokens", [TOOL, token(PAD)], MAP),
    "map own": setting("tool_token", TOOL, MAP),
    "decoder": lambda files: decoder(files, END, special=True),
    "decoder, not special": lambda files: decoder(files, TOOL),
    "decoder, strips": lambda files: decoder(files, END, special=True, lstrip=True),
    "numbers": setting(END, 500, "added_tokens.json"),
    "numbers of another": setting(TOOL, 500, "added_tokens.json"),
    "stored": lambda files: stored(files, END),
    "stored, strips": lambda files: stored(files, TOOL, rstrip=True, normalized=True),
    "extra list": setting("extra_special_tokens", [TOOL]),
    "extra names": setting("extra_special_tokens", {"tool_token": TOOL, "turn": END}),
    "extra empty": setting("extra_special_tokens", {}),
    "additional": setting("additional_special_tokens", [END, TOOL]),
    "own": setting("tool_token", TOOL),
    "pad": setting("pad_token", PAD),
    "padding": lambda files: files["tokenizer.json"].update(padding=PADDING),
    "truncation": lambda files: files["tokenizer.json"].update(truncation=TRUNCATION),
    "llama": setting("tokenizer_class", "LlamaTokenizerFast"),
    "gpt2": setting("tokenizer_class", "GPT2Tokenizer"),
    "neox": setting("tokenizer_class", "GPTNeoXTokenizerFast"),
    "split": setting("split_special_tokens", True),
    "flags": lambda files: files["tokenizer_config.json"].update(add_bos_token=True, add_eos_token=True),
}


def directories() -> Iterator[tuple[str, Files]]:
    """Yield every place, and some of two and three, with and without the words in the vocabulary.

    GPT-2's and GPT-NeoX's classes forget the tokens of tokenizer.json beside an `added_tokens_decoder` without them.
    """
    several = [*itertools.combinations(PLACES, 2)][::STEP] + [*itertools.combinations(PLACES, 3)][:: 24 * STEP]
    for number, names in enumerate((*((name,) for name in PLACES), *several)):
        if {"gpt2", "neox"} & {*names} and any("decoder" in name for name in names):
            continue
        files = base(in_vocabulary=number % 3 == 0)
        for name in names:
            PLACES[name](files)
        yield " + ".join(names), files
    for kind, name in itertools.product(("words", "pieces"), PLACES):
        if name not in ("llama", "gpt2", "neox"):  # classes that replace the tokenizer's steps by their own
            files = base(in_vocabulary=len(name) % 2 == 0, kind=kind)
            PLACES[name](files)
            yield f"{kind}: {name}", files


def written(files: Files, path: Path) -> Path:
    path.mkdir()
    for name, value in files.items():
        (path / name).write_text(json.dumps(value), encoding="utf-8")
    return path


def ours(directory: Path, target: Path) -> Tokenizer:
    """Write the merged files to `target`, and open them as the runtime does."""
    target.mkdir()
    for name, data in tokenizer_files(directory, {"model_type": "llama"}).items():
        (target / name).write_bytes(data)
    return Tokenizer.load(target / "tokenizer.json", target / "tokenizer_config.json")


def differences(reference: Any, tokenizer: Tokenizer) -> list[str]:
    """Say where a tokenizer differs from that of transformers."""
    found = []
    if reference.special_tokens_map != tokenizer.special_tokens:
        found.append(f"special tokens {tokenizer.special_tokens}, not {reference.special_tokens_map}")
    message = [{"role": "user", "content": "hi"}]
    wanted = reference.apply_chat_template(message, tokenize=False)
    if ChatTemplate(TEMPLATE, tokenizer.special_tokens).render(message) != wanted:
        found.append(f"the template does not give {wanted!r}")
    for text, add in itertools.product(TEXTS, (False, True)):
        ids = reference(text, add_special_tokens=add)["input_ids"]
        if tokenizer.encode(text, add_special_tokens=add) != ids:
            found.append(f"{text!r} is {tokenizer.encode(text, add)}, not {ids}")
        shown, whole = reference.decode(ids, skip_special_tokens=True), reference.decode(ids)
        if tokenizer.decode(ids) != shown:
            found.append(f"{ids} is {tokenizer.decode(ids)!r}, not {shown!r}")
        if reference.decoder is not None and "".join(map(tokenizer.text_of, ids)) != whole:
            found.append(f"{ids} with special tokens is not {whole!r}")
    return found


def test_tokens_are_found_wherever_they_are_declared(tmp_path: Path) -> None:
    wrong, count = {}, 0
    for name, files in directories():
        count += 1
        directory = written(files, tmp_path / str(count))
        tokenizer = ours(directory, tmp_path / f"merged {count}")
        if found := differences(AutoTokenizer.from_pretrained(directory), tokenizer):
            wrong[name] = found
        merged = tmp_path / f"merged {count}"
        if count % 5 == 0 and (found := differences(AutoTokenizer.from_pretrained(merged), tokenizer)):
            wrong[f"{name}, merged"] = found
    assert count > 150
    assert not wrong, json.dumps(wrong, indent=1)[:4000]
