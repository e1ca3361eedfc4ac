"""Read, check and complete the tokenizer files of a Hugging Face directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from argosy.model_defs.checkpoint.pre_tokenizers import PRE_TOKENIZERS
from argosy.model_defs.checkpoint.storage import parse_object, read_small
from argosy.model_defs.checkpoint.tokenizer_json import Added, byte_level_bpe, verify
from argosy.support.bounded_file import path_line
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.strict_json import TOKENIZER_MEMORY
from argosy.support.text import one_line

PASSED = ("generation_config.json", "special_tokens_map.json")
TOKENIZER_INPUTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    *PASSED,
)
FLAGS = ("special", "lstrip", "rstrip", "normalized", "single_word")
# Pre-tokenizers of models published as vocab.json and merges.txt, by `tokenizer_class` or `model_type`.
BYTE_LEVEL = {"GPT2": "gpt-2", "gpt2": "gpt-2", "Qwen2": "qwen2", "qwen2": "qwen2", "Qwen3": "qwen2", "qwen3": "qwen2"}


def tokenizer_files(directory: Path, config: Mapping[str, object]) -> dict[str, bytes]:
    """See `Checkpoint.tokenizer_files`."""
    settings = _object(directory / "tokenizer_config.json") or {}
    template = _template(directory)
    if template is not None:
        settings = {**settings, "chat_template": template}
    out = {"tokenizer.json": _tokenizer(directory, settings, config)}
    out["tokenizer_config.json"] = (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    if template is not None:
        out["chat_template.jinja"] = template.encode("utf-8")
    for name in PASSED:
        if (value := _object(directory / name)) is not None:
            out[name] = (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    return out


def _object(path: Path) -> dict[str, object] | None:
    """Read the JSON object in a file, or return None if there is no file."""
    return parse_object(read_small(path), f"`{path_line(path)}`") if path.exists() else None


def _template(directory: Path) -> str | None:
    """Read the chat template from its own file, which overrides the one in `tokenizer_config.json`."""
    path = directory / "chat_template.jinja"
    if path.exists():
        try:
            return read_small(path).decode("utf-8")
        except UnicodeDecodeError:
            raise CheckpointError(f"`{path_line(path)}` is not UTF-8 text", "download it again") from None
    template = (_object(directory / "chat_template.json") or {}).get("chat_template")
    return template if isinstance(template, str) else None


def _tokenizer(directory: Path, settings: Mapping[str, object], config: Mapping[str, object]) -> bytes:
    """Read `tokenizer.json`, or build it from older files."""
    path = directory / "tokenizer.json"
    if path.exists():
        data = read_small(path)
        parse_object(data, f"`{path_line(path)}`", TOKENIZER_MEMORY)
        verify(data, f"`{path_line(path)}`")
        return data
    if (directory / "vocab.json").exists() and (directory / "merges.txt").exists():
        return _from_vocab_and_merges(directory, settings, config)
    hint = "it should hold tokenizer.json"
    if (directory / "tokenizer.model").exists():
        hint = (
            "tokenizer.model alone is not enough: make tokenizer.json with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    raise CheckpointError(f"`{path_line(directory)}` has no `tokenizer.json`", hint)


def _from_vocab_and_merges(directory: Path, settings: Mapping[str, object], config: Mapping[str, object]) -> bytes:
    """Build a byte-level tokenizer from `vocab.json`, `merges.txt` and the special tokens in other files."""
    name = str(settings.get("tokenizer_class") or config.get("model_type"))
    name = name.removesuffix("Fast").removesuffix("Tokenizer")
    if name not in BYTE_LEVEL:
        raise UnsupportedModelError(
            f"a tokenizer of class `{one_line(name)}` cannot be made from vocab.json and merges.txt",
            "add tokenizer.json: AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
        )
    path = directory / "vocab.json"
    stored = parse_object(read_small(path), f"`{path_line(path)}`")
    vocab = {text: i for text, i in stored.items() if type(i) is int and 0 <= i < 1 << 31}
    if not vocab or len(vocab) != len(stored):
        raise CheckpointError(f"`{path_line(path)}` does not map tokens to numbers", "download it again")
    if len(set(vocab.values())) != len(vocab):
        raise CheckpointError(f"`{path_line(path)}` gives one number to two tokens", "download it again")
    added = _added_tokens(directory, settings, vocab)
    vocab |= {token.content: token.id for token in added}
    merges = _merges(directory / "merges.txt", vocab)
    before = [added_text(settings.get("bos_token"))] if settings.get("add_bos_token") is True else []
    return byte_level_bpe(vocab, merges, added, PRE_TOKENIZERS[BYTE_LEVEL[name]], [b for b in before if b in vocab])


def _merges(path: Path, vocab: Mapping[str, object]) -> list[str]:
    """Read the lines of `merges.txt` without its heading."""
    try:
        lines = read_small(path).decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise CheckpointError(f"`{path_line(path)}` is not UTF-8 text", "download it again") from None
    merges = [line.rstrip("\r") for line in lines[lines[0].startswith("#version") :] if line.strip()]
    for merge in merges:
        left, space, right = merge.partition(" ")
        if not space or " " in right or not {left, right, left + right} <= vocab.keys():
            raise CheckpointError(
                f"the merge `{one_line(merge)}` in `{path_line(path)}` does not join two tokens to a third",
                "download it again",
            )
    return merges


def added_text(token: object) -> str:
    """Return the text of a special token, which older files write as an object."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _added_tokens(directory: Path, settings: Mapping[str, object], vocab: Mapping[str, int]) -> list[Added]:
    """Collect the added tokens of `tokenizer_config.json`, `added_tokens.json` and `special_tokens_map.json`."""
    found: dict[str, Added] = {}
    decoder = settings.get("added_tokens_decoder")
    for key, value in decoder.items() if isinstance(decoder, dict) else ():
        text = added_text(value)
        if not key.isascii() or not key.isdigit() or len(key) > 9 or not text:
            raise CheckpointError(
                f"`added_tokens_decoder` has the entry `{one_line(key)}`, which is not a token", "download it again"
            )
        flags = {flag: isinstance(value, dict) and value.get(flag) is True for flag in FLAGS}
        found[text] = Added(int(key), text, **flags)
    for text, i in (_object(directory / "added_tokens.json") or {}).items():
        if type(i) is not int or not 0 <= i < 1 << 31:
            raise CheckpointError(f"`added_tokens.json` gives `{one_line(text)}` no number", "download it again")
        found.setdefault(text, Added(i, text, special=True))
    named = {**(_object(directory / "special_tokens_map.json") or {}), **settings}
    for key, value in named.items():
        text = added_text(value)
        if key.endswith("_token") and text in vocab:
            found.setdefault(text, Added(vocab[text], text, special=True))
    taken = {i: text for text, i in vocab.items()}
    for token in found.values():
        if taken.setdefault(token.id, token.content) != token.content:
            raise CheckpointError(f"token `{one_line(token.content)}` has the number of another", "download it again")
    return list(found.values())
