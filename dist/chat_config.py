"""Make, write and read `mlc-chat-config.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from argosy.dist.recommended import (
    RecommendedSettings,
    chosen_in_config,
    read_settings,
    recommended,
    settings_to_json,
)
from argosy.dist.records import Fields, read_json
from argosy.support.files import write_json_atomic
from argosy.support.strict_json import TOKENIZER_MEMORY, JsonError, parse_json

CHAT_CONFIG_NAME = "mlc-chat-config.json"
TEXT_CONFIGS = ("decoder", "generator", "text_config")  # where `config.json` describes the text part of a model
MLC_VERSION = "0.1.0"  # MLC's version of the file format


@dataclass(frozen=True, slots=True)
class ChatConfig:
    """The fields of `mlc-chat-config.json` that runtimes read.

    -1 in `sliding_window_size` and `attention_sink_size` means unused. The file holds the settings of `sampling` beside
    the other fields; MLC knows some of them and ignores the rest. `conv_template` is None if MLC's form cannot express
    the model's Jinja template.
    """

    model_type: str
    quantization: str
    model_config: dict[str, object]
    vocab_size: int
    context_window_size: int
    prefill_chunk_size: int
    sliding_window_size: int = -1
    attention_sink_size: int = -1
    tensor_parallel_shards: int = 1
    sampling: RecommendedSettings = dataclasses.field(default_factory=RecommendedSettings)
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    tokenizer_files: tuple[str, ...] = ()
    tokenizer_info: dict[str, object] = dataclasses.field(default_factory=dict)
    conv_template: dict[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON object, with MLC's field names."""
        values: dict[str, object] = {"version": MLC_VERSION}
        values |= {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["eos_token_ids"], values["sampling"]
        values |= settings_to_json(self.sampling)
        if eos := list(self.eos_token_ids):
            values["eos_token_id"] = eos[0] if len(eos) == 1 else eos
        values["tokenizer_files"] = list(self.tokenizer_files)
        return {name: value for name, value in values.items() if value is not None}


def make_chat_config(
    *,
    model_type: str,
    quantization: str,
    model_config: Mapping[str, object],
    vocab_size: int,
    context_window_size: int,
    prefill_chunk_size: int,
    max_batch_size: int,
    sliding_window_size: int = -1,
    tokenizer_files: Mapping[str, bytes],
    preset: Mapping[str, object] | None = None,
    conv_template: dict[str, object] | None = None,
) -> ChatConfig:
    """Make the chat config of a model, with sampling defaults and special ids from its `generation_config.json`.

    `model_config` is the checkpoint's `config.json`, which is included for runtimes that read it. `preset` is for a
    model that recommends nothing, under the same names as in `generation_config.json`.
    """
    generation = _json_object(tokenizer_files.get("generation_config.json"))
    sampling, _ = model_settings(tokenizer_files, model_config, preset, vocab_size, context_window_size)
    bounds = {
        "context_window_size": context_window_size, "prefill_chunk_size": prefill_chunk_size,
        "sliding_window_size": sliding_window_size, "max_batch_size": max_batch_size, "tensor_parallel_shards": 1,
    }  # fmt: skip

    def token_id(name: str) -> int | None:
        ids = _declared(name, generation, model_config)
        return ids[0] if ids else None

    return ChatConfig(
        model_type=model_type,
        quantization=quantization,
        model_config={**model_config, **bounds},
        vocab_size=vocab_size,
        context_window_size=context_window_size,
        prefill_chunk_size=prefill_chunk_size,
        sliding_window_size=sliding_window_size,
        sampling=sampling,
        pad_token_id=token_id("pad_token_id"),
        bos_token_id=token_id("bos_token_id"),
        eos_token_ids=_declared("eos_token_id", generation, model_config),
        tokenizer_files=tuple(sorted(tokenizer_files)),
        tokenizer_info=tokenizer_info(_json_object(tokenizer_files.get("tokenizer.json"))),
        conv_template=conv_template,
    )


def model_settings(
    tokenizer_files: Mapping[str, bytes],
    model_config: Mapping[str, object],
    preset: Mapping[str, object] | None,
    vocab_size: int,
    context_window: int,
) -> tuple[RecommendedSettings, tuple[str, ...]]:
    """Return the settings that a checkpoint recommends, or else those of `preset`; and notes on what is left out."""
    generation = _json_object(tokenizer_files.get("generation_config.json"))
    ends = _declared("eos_token_id", generation, model_config)
    if "generation_config.json" not in tokenizer_files:
        generation = chosen_in_config(model_config)
    settings, notes = recommended(generation, vocab_size=vocab_size, context_window=context_window, ends=ends)
    if preset and settings == RecommendedSettings():
        return recommended(preset, vocab_size=vocab_size, context_window=context_window, ends=ends)
    return settings, notes


def _declared(name: str, generation: Mapping[str, object], model_config: Mapping[str, object]) -> tuple[int, ...]:
    """Return the token ids at `name`: of the first of the places where transformers looks that has one."""
    inner = next((part for key in TEXT_CONFIGS if isinstance(part := model_config.get(key), dict)), {})
    places = (generation, model_config, inner)
    return next((ids for place in places if (ids := _token_ids(place.get(name)))), ())


def tokenizer_info(tokenizer: Mapping[str, object]) -> dict[str, object]:
    """Summarize a `tokenizer.json` for MLC's grammar engine."""
    decoders = _steps(tokenizer.get("decoder"), "decoders")
    normalizers = _steps(tokenizer.get("normalizer"), "normalizers")
    before = _steps(tokenizer.get("pre_tokenizer"), "pretokenizers")
    kinds = {step.get("type") for step in decoders}
    prepends = any(step.get("type") == "Prepend" for step in normalizers) or any(
        step.get("type") == "Metaspace" and step.get("prepend_scheme", "always") != "never" for step in before
    )
    return {
        "token_postproc_method": "byte_level" if "ByteLevel" in kinds else "byte_fallback",
        "prepend_space_in_encode": prepends,
        "strip_space_in_decode": "Strip" in kinds,
    }


def _steps(part: object, name: str) -> list[dict[str, object]]:
    """Return the steps of one part of a tokenizer, which may be a sequence or a single step."""
    if not isinstance(part, dict):
        return []
    steps = part.get(name) if part.get("type") == "Sequence" else [part]
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def _json_object(data: bytes | None) -> dict[str, object]:
    """Parse an object; return an empty one for invalid data, which the checkpoint's reader has refused already."""
    try:
        value = parse_json(data, TOKENIZER_MEMORY) if data else {}
    except JsonError:
        return {}
    return value if isinstance(value, dict) else {}


def _token_ids(value: object) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if type(item) is int and item >= 0)


def write_chat_config(directory: Path, config: ChatConfig) -> None:
    """Write `mlc-chat-config.json` into `directory`."""
    write_json_atomic(directory / CHAT_CONFIG_NAME, config.to_json())


def read_chat_config(directory: Path, hint: str | None = None) -> ChatConfig:
    """Read `mlc-chat-config.json` from `directory`, ours or MLC's.

    Raises ArtefactError for a file that is missing or malformed.
    """
    fields = read_json(directory / CHAT_CONFIG_NAME, hint)
    return ChatConfig(
        model_type=fields.word("model_type"),
        quantization=fields.word("quantization"),
        model_config=fields.child("model_config").values,
        vocab_size=fields.integer("vocab_size", minimum=1),
        context_window_size=fields.integer("context_window_size", minimum=-1),
        prefill_chunk_size=fields.integer("prefill_chunk_size", minimum=1),
        sliding_window_size=fields.integer("sliding_window_size", minimum=-1, default=-1),
        attention_sink_size=fields.integer("attention_sink_size", minimum=-1, default=-1),
        tensor_parallel_shards=fields.integer("tensor_parallel_shards", minimum=1, default=1),
        sampling=read_settings(fields),
        pad_token_id=_optional_id(fields, "pad_token_id"),
        bos_token_id=_optional_id(fields, "bos_token_id"),
        eos_token_ids=_read_eos(fields),
        tokenizer_files=fields.file_names("tokenizer_files"),
        tokenizer_info=fields.child("tokenizer_info").values if "tokenizer_info" in fields.values else {},
        conv_template=_read_template(fields),
    )


def _optional_id(fields: Fields, name: str) -> int | None:
    return None if fields.values.get(name) is None else fields.integer(name)


def _read_eos(fields: Fields) -> tuple[int, ...]:
    """Return the ids at `eos_token_id`, and those that MLC keeps with its template."""
    value, template = fields.values.get("eos_token_id"), fields.values.get("conv_template")
    named: tuple[int, ...] = ()
    if value is not None:
        several = isinstance(value, list)
        named = fields.integers("eos_token_id") if several else (fields.integer("eos_token_id", minimum=0),)
    more = _token_ids(template.get("stop_token_ids")) if isinstance(template, dict) else ()
    return tuple(dict.fromkeys((*named, *more)))


def _read_template(fields: Fields) -> dict[str, object] | None:
    """Return the template, or None for old MLC directories, which only name one."""
    value = fields.values.get("conv_template")
    return None if value is None or isinstance(value, str) else fields.child("conv_template").values
