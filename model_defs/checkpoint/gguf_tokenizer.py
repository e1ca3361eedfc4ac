"""Convert a GGUF file's tokenizer metadata to the tokenizer files of a Hugging Face directory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from argosy.model_defs.checkpoint.gguf_file import MetadataValue
from argosy.model_defs.checkpoint.gguf_metadata import is_no_token
from argosy.model_defs.checkpoint.pre_tokenizers import pre_tokenizer_named
from argosy.model_defs.checkpoint.tokenizer_json import Added, byte_level_bpe, merges_of_scores, sentencepiece_bpe
from argosy.model_defs.checkpoint.turn_tokens import ends_of_turn, is_control
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

PREFIX = "tokenizer.ggml."
DAMAGED = "download it or convert it again"
MOST_TOKENS = 1 << 19  # the largest vocabularies have 262144
MOST_ADDED = 1 << 16  # control and user-defined tokens; gemma has 6400
MOST_MERGES = 4  # for each token; genuine vocabularies have 1 to 3
LONGEST_PIECE = 1024  # characters; finding the merges of a piece takes quadratic time
PHI3_KEEPS_SPACE = ("<unk>", "<s>", "<|endoftext|>")


class TokenKind(IntEnum):
    """The values of `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Tokens:
    """A vocabulary: texts, kinds and scores by id; `ids` by text, without the padding of the vocabulary."""

    texts: list[str]
    kinds: list[int]
    scores: list[float]
    ids: dict[str, int]


def tokenizer_files(
    values: Mapping[str, MetadataValue], architecture: str, rows: int, positions: int
) -> dict[str, bytes]:
    """Build `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`.

    `rows` is the number of rows of the embedding, `positions` the context length.
    """
    model = values.get(PREFIX + "model")
    if not isinstance(model, str) or model not in WRITERS:
        what = "has no tokenizer" if model is None else f"has a tokenizer of kind `{one_line(model)}`"
        raise UnsupportedModelError(f"the GGUF file {what}", f"supported: {', '.join(WRITERS)}")
    tokens = _tokens(values, rows)
    special = {name: _token_id(values, f"{key}_token_id", tokens) for name, key in SPECIAL.items()}
    add_bos, add_eos = _frame_flags(values, str(model))
    before = [tokens.texts[special["bos_token"]]] if add_bos and special["bos_token"] is not None else []
    after = [tokens.texts[special["eos_token"]]] if add_eos and special["eos_token"] is not None else []
    added = _added(tokens, architecture, str(model))
    named = {name: tokens.texts[i] for name, i in special.items() if i is not None}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(before),
        "add_eos_token": bool(after),
        **named,
        **_chat_template(values),
        "added_tokens_decoder": {
            str(token.id): {key: value for key, value in token.as_json().items() if key != "id"} for token in added
        },
    }
    ends = [special["eos_token"], *(end for key in ENDS for end in _token_ids(values, key, tokens))]
    by_name = ends_of_turn([token.content for token in added if token.special])
    ends += [token.id for token in added if token.content in by_name]
    generation = {
        "bos_token_id": special["bos_token"],
        "eos_token_id": list(dict.fromkeys(end for end in ends if end is not None)),
        "pad_token_id": special["pad_token"],
        **_sampling(values),
    }
    return {
        "tokenizer.json": WRITERS[str(model)](values, tokens, added, before, after),
        "tokenizer_config.json": _json(config),
        "generation_config.json": _json({key: value for key, value in generation.items() if value not in (None, [])}),
    }


SAMPLING = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
    "general.sampling.penalty_last_n": "repeat_last_n",
    "general.sampling.mirostat": "mirostat",
    "general.sampling.xtc_probability": "xtc_probability",
}
ENDS = ("eos_token_ids", "eot_token_id", "eot_token_ids", "eom_token_id", "eom_token_ids")
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode("utf-8")


def _tokens(values: Mapping[str, MetadataValue], rows: int) -> Tokens:
    """Read the vocabulary, checking its parts against one another and against the embedding."""
    texts = _texts(values, "tokens")
    if len(texts) > rows:
        raise CheckpointError(f"the GGUF file has `{len(texts)}` tokens, but an embedding of {rows} rows", DAMAGED)
    if len(texts) > MOST_TOKENS:
        raise CheckpointError(f"the GGUF file has `{len(texts)}` tokens, more than the {MOST_TOKENS} allowed", DAMAGED)
    kinds = _numbers(values, "token_type", len(texts), TokenKind.NORMAL)
    scores = _numbers(values, "scores", len(texts), 0.0)
    ids: dict[str, int] = {}
    for i, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
        if not text or (kind == TokenKind.UNUSED and text == f"[PAD{i}]"):
            continue
        if text in ids:
            raise CheckpointError(f"the GGUF file has the token `{one_line(text)}` twice", DAMAGED)
        ids[text] = i
    return Tokens(texts, [_kind(text, int(kind)) for text, kind in zip(texts, kinds, strict=True)], scores, ids)


def _kind(text: str, kind: int) -> int:
    """Return a token's kind, corrected where its name says that it is a control token and the file does not.

    Such a token would be spelled out when a template writes it, and appear in answers instead of ending them.
    """
    wrong = kind in (TokenKind.NORMAL, TokenKind.USER_DEFINED) and is_control(text)
    return TokenKind.CONTROL if wrong else kind


def _texts(values: Mapping[str, MetadataValue], key: str) -> list[str]:
    value = values.get(PREFIX + key)
    if not isinstance(value, list) or not value:
        raise CheckpointError(f"the GGUF file has no list of strings at `{PREFIX}{key}`", DAMAGED)
    return value


def _numbers(values: Mapping[str, MetadataValue], key: str, count: int, default: float) -> list[float]:
    """Return the list of `count` finite numbers at `key`; `default` repeated if there is none."""
    value = values.get(PREFIX + key)
    if value is None:
        return [default] * count
    if not isinstance(value, np.ndarray) or len(value) != count or not np.isfinite(value).all():
        raise CheckpointError(f"`{PREFIX}{key}` does not hold a number for each of the {count} tokens", DAMAGED)
    return value.tolist()


def _token_id(values: Mapping[str, MetadataValue], key: str, tokens: Tokens) -> int | None:
    """Return the id at `key`, or None."""
    return next(iter(_token_ids(values, key, tokens)), None)


def _token_ids(values: Mapping[str, MetadataValue], key: str, tokens: Tokens) -> list[int]:
    """Return the ids at `key`, which holds one or several of them, or nothing."""
    value = values.get(PREFIX + key)
    ids: list[int] = []
    for item in value.tolist() if isinstance(value, np.ndarray) else value if isinstance(value, list) else [value]:
        if item is None or is_no_token(item):
            continue
        if type(item) is not int or not 0 <= item < len(tokens.texts) or tokens.texts[item] not in tokens.ids:
            raise CheckpointError(f"`{PREFIX}{key}` is `{one_line(value)}`, which is not a token", DAMAGED)
        ids.append(item)
    return ids


def _frame_flags(values: Mapping[str, MetadataValue], model: str) -> tuple[bool, bool]:
    """Return whether the beginning and the end of a text get special tokens, by default as llama.cpp has it."""
    default = model == "llama" or pre_tokenizer_named(values.get(PREFIX + "pre")).add_bos
    flags = []
    for key, fallback in (("add_bos_token", default), ("add_eos_token", False)):
        value = values.get(PREFIX + key, fallback)
        if type(value) is not bool:
            raise CheckpointError(f"`{PREFIX}{key}` is `{one_line(value)}`, which is not true or false", DAMAGED)
        flags.append(value)
    return flags[0], flags[1]


def _added(tokens: Tokens, architecture: str, model: str) -> list[Added]:
    """List the added tokens: control tokens are special, user-defined ones are text that must not be split."""
    strips = architecture == "phi3" and model == "llama"  # they absorb the space after them
    kinds = (TokenKind.CONTROL, TokenKind.USER_DEFINED, TokenKind.UNKNOWN)
    if (count := sum(kind in kinds for kind in tokens.kinds)) > MOST_ADDED:
        raise CheckpointError(f"the GGUF file has `{count}` added tokens, more than the {MOST_ADDED} allowed", DAMAGED)
    return [
        Added(
            i,
            text,
            special=tokens.kinds[i] != TokenKind.USER_DEFINED,
            rstrip=strips and tokens.kinds[i] == TokenKind.CONTROL and text not in PHI3_KEEPS_SPACE,
        )
        for text, i in tokens.ids.items()
        if tokens.kinds[i] in kinds
    ]


def _chat_template(values: Mapping[str, MetadataValue]) -> dict[str, object]:
    template = values.get("tokenizer.chat_template")
    if template is None:
        return {}
    if not isinstance(template, str):
        raise CheckpointError("`tokenizer.chat_template` is not text", DAMAGED)
    return {"chat_template": template}


def _sampling(values: Mapping[str, MetadataValue]) -> dict[str, object]:
    """Return the settings of answers that the file recommends, under the names of transformers."""
    found = {name: values[key] for key, name in SAMPLING.items() if key in values}
    # floats are stored as float32: 0.95 is meant, where 0.949999988 is read
    return {name: float(str(np.float32(v))) if isinstance(v, float) else v for name, v in found.items()}


def _write_byte_level(
    values: Mapping[str, MetadataValue], tokens: Tokens, added: list[Added], before: list[str], after: list[str]
) -> bytes:
    """Build the tokenizer of model `gpt2`: byte-level BPE with the merges in the file."""
    merges = _texts(values, "merges")
    if len(merges) > MOST_MERGES * len(tokens.texts):
        raise CheckpointError(f"the GGUF file has `{len(merges)}` merges for {len(tokens.texts)} tokens", DAMAGED)
    for merge in merges:
        left, space, right = merge.partition(" ")
        if not space or " " in right or not {left, right, left + right} <= tokens.ids.keys():
            raise CheckpointError(f"the merge `{one_line(merge)}` does not join two tokens to a third", DAMAGED)
    pre = pre_tokenizer_named(values.get(PREFIX + "pre"))
    return byte_level_bpe(tokens.ids, merges, added, pre, before, after)


def _write_sentencepiece(
    values: Mapping[str, MetadataValue], tokens: Tokens, added: list[Added], before: list[str], after: list[str]
) -> bytes:
    """Build the tokenizer of model `llama`: sentencepiece BPE, whose merges follow from the scores."""
    if PREFIX + "scores" not in values:
        raise CheckpointError(f"the GGUF file has no `{PREFIX}scores`", DAMAGED)
    if longest := next((text for text in tokens.ids if len(text) > LONGEST_PIECE), None):
        raise CheckpointError(f"the token `{one_line(longest)}` has {len(longest)} characters", DAMAGED)
    plain = {text: i for text, i in tokens.ids.items() if tokens.kinds[i] == TokenKind.NORMAL}
    scores = {text: tokens.scores[i] for text, i in plain.items() if len(text) > 1}
    merges = merges_of_scores(tokens.ids, scores, frozenset(plain))
    prefix = values.get(PREFIX + "add_space_prefix", True)
    if type(prefix) is not bool:
        raise CheckpointError(f"`{PREFIX}add_space_prefix` is `{one_line(prefix)}`, not true or false", DAMAGED)
    unknown = next((text for text, i in tokens.ids.items() if tokens.kinds[i] == TokenKind.UNKNOWN), None)
    return sentencepiece_bpe(tokens.ids, merges, added, unknown, prefix, before, after)


WRITERS = {"gpt2": _write_byte_level, "llama": _write_sentencepiece}
