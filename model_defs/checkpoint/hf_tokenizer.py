"""Read, check and complete the tokenizer files of a Hugging Face directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from argosy.model_defs.checkpoint.added_tokens import Sources, class_defaults, declared_numbers, merge_tokens
from argosy.model_defs.checkpoint.pre_tokenizers import PRE_TOKENIZERS
from argosy.model_defs.checkpoint.storage import parse_object, read_small
from argosy.model_defs.checkpoint.tokenizer_json import byte_level_bpe
from argosy.support.bounded_file import path_line
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.fast_tokenizer import load_parsed, parse_tokenizer
from argosy.support.text import one_line

TOKENIZER_INPUTS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "generation_config.json",
)
# Pre-tokenizers of models published as vocab.json and merges.txt, by `tokenizer_class` or `model_type`.
BYTE_LEVEL = {"GPT2": "gpt-2", "gpt2": "gpt-2", "Qwen2": "qwen2", "qwen2": "qwen2", "Qwen3": "qwen2", "qwen3": "qwen2"}


def tokenizer_files(directory: Path, config: Mapping[str, object]) -> dict[str, bytes]:
    """See `Checkpoint.tokenizer_files`. What the older files say of tokens is merged into the two that are returned."""
    sources = Sources(
        settings=_object(directory / "tokenizer_config.json") or {},
        special_map=_object(directory / "special_tokens_map.json") or {},
        numbers=_object(directory / "added_tokens.json") or {},
    )
    template = _template(directory)
    if template is not None:
        sources.settings["chat_template"] = template
    tokenizer, settings = _tokenizer(directory, sources, config)
    out = {"tokenizer.json": tokenizer, "tokenizer_config.json": _written(settings)}
    if template is not None:
        out["chat_template.jinja"] = template.encode("utf-8")
    if (generation := _object(directory / "generation_config.json")) is not None:
        out["generation_config.json"] = _written(generation)
    return out


def _written(value: Mapping[str, object]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


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


def _tokenizer(directory: Path, sources: Sources, config: Mapping[str, object]) -> tuple[bytes, dict[str, object]]:
    """Read `tokenizer.json`, or build it from older files. Returns it with the merged `tokenizer_config.json`."""
    path = directory / "tokenizer.json"
    if path.exists():
        return _completed(path, sources, config)
    if (directory / "vocab.json").exists() and (directory / "merges.txt").exists():
        return _from_vocab_and_merges(directory, sources, config)
    hint = "it should hold tokenizer.json"
    if (directory / "tokenizer.model").exists():
        hint = (
            "tokenizer.model alone is not enough: make tokenizer.json with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )
    raise CheckpointError(f"`{path_line(directory)}` has no `tokenizer.json`", hint)


def _completed(path: Path, sources: Sources, config: Mapping[str, object]) -> tuple[bytes, dict[str, object]]:
    """Read `tokenizer.json`, and add the tokens that only other files have. Prompts are neither cut nor padded."""
    data, what = read_small(path), f"`{path_line(path)}`"

    def refuse(problem: str) -> CheckpointError:
        return CheckpointError(f"{what} {problem}", "download or convert it again")

    stored = parse_tokenizer(data, refuse)
    before = stored.get("added_tokens")
    sources.stored = before if isinstance(before, list) else []
    byte_level = '"ByteLevel"' in json.dumps([stored.get("pre_tokenizer"), stored.get("decoder")])
    sources.defaults = class_defaults(sources.settings, config, byte_level)
    merged = merge_tokens(sources, _vocabulary(stored), stored.get("padding"))
    changes = {"truncation": None, "padding": None, "added_tokens": [token.as_json() for token in merged.added]}
    if any(stored.get(key) != value for key, value in changes.items()):
        data = json.dumps({**stored, **changes}, ensure_ascii=False).encode("utf-8")
    load_parsed({**stored, **changes}, data, refuse)
    return data, merged.settings


def _vocabulary(tokenizer: Mapping[str, object]) -> dict[str, int]:
    """Return the vocabulary of a tokenizer, without added tokens; what is malformed in it is left out."""
    model = tokenizer.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, list):
        pieces = [piece[0] if isinstance(piece, list) and piece else None for piece in vocabulary]
        return {piece: number for number, piece in reversed(list(enumerate(pieces))) if isinstance(piece, str)}
    return {text: n for text, n in vocabulary.items() if type(n) is int} if isinstance(vocabulary, dict) else {}


def _from_vocab_and_merges(
    directory: Path, sources: Sources, config: Mapping[str, object]
) -> tuple[bytes, dict[str, object]]:
    """Build a byte-level tokenizer from `vocab.json`, `merges.txt` and the special tokens in other files."""
    settings = sources.settings
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
    merges = _merges(directory / "merges.txt", vocab)
    taken = {number: text for text, number in vocab.items()}
    for number, text in declared_numbers(sources):
        if taken.setdefault(number, text) != text:
            raise CheckpointError(f"token `{one_line(text)}` has the number of another", "download it again")
        vocab.setdefault(text, number)
    sources.defaults = class_defaults(settings, config, byte_level=True)
    merged = merge_tokens(sources, vocab, None)
    vocab |= {token.content: token.id for token in merged.added}
    named = {end: merged.settings.get(f"{end}_token") for end in ("bos", "eos") if settings.get(f"add_{end}_token")}
    before, after = ([token] if isinstance(token := named.get(end), str) else [] for end in ("bos", "eos"))
    tokenizer = byte_level_bpe(vocab, merges, merged.added, PRE_TOKENIZERS[BYTE_LEVEL[name]], before, after)
    return tokenizer, merged.settings


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
