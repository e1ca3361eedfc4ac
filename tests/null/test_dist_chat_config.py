"""The chat config has the fields that MLC's runtimes read, and is read whether we or MLC wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from argosy.dist.chat_config import (
    CHAT_CONFIG_NAME,
    make_chat_config,
    read_chat_config,
    tokenizer_info,
    write_chat_config,
)
from argosy.dist.recommended import RecommendedSettings
from argosy.support.errors import ArtefactError

GENERATION = {"temperature": 0.6, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1, "eos_token_id": [2, 7],
              "pad_token_id": 2, "do_sample": True}  # fmt: skip


def make(generation: dict[str, object] | None = None, **changes: Any) -> Any:
    files = {"tokenizer.json": b'{"decoder": {"type": "ByteLevel"}}', "tokenizer_config.json": b"{}"}
    if generation is not None:
        files["generation_config.json"] = json.dumps(generation).encode()
    arguments = {
        "model_type": "llama", "quantization": "q4f16_1",
        "model_config": {"hidden_size": 576, "bos_token_id": 1, "eos_token_id": 2},
        "vocab_size": 49152, "context_window_size": 2048, "prefill_chunk_size": 256, "max_batch_size": 4,
        "tokenizer_files": files, "conv_template": {"name": "chatml"},
    }  # fmt: skip
    return make_chat_config(**{**arguments, **changes})


def test_what_web_llm_and_mlc_look_up(tmp_path: Path) -> None:
    write_chat_config(tmp_path, make(GENERATION))
    stored = json.loads((tmp_path / CHAT_CONFIG_NAME).read_text())
    expected = {
        "version": "0.1.0", "model_type": "llama", "quantization": "q4f16_1", "vocab_size": 49152,
        "context_window_size": 2048, "sliding_window_size": -1, "prefill_chunk_size": 256, "attention_sink_size": -1,
        "tensor_parallel_shards": 1, "temperature": 0.6, "top_p": 0.9, "presence_penalty": 0.0,
        "frequency_penalty": 0.0, "repetition_penalty": 1.1, "pad_token_id": 2, "bos_token_id": 1,
        "eos_token_id": [2, 7], "conv_template": {"name": "chatml"},
        "tokenizer_files": ["generation_config.json", "tokenizer.json", "tokenizer_config.json"],
    }  # fmt: skip
    assert {name: stored[name] for name in expected} == expected
    assert stored["tokenizer_info"]["token_postproc_method"] == "byte_level"
    assert stored["model_config"]["max_batch_size"] == 4 and stored["model_config"]["hidden_size"] == 576


GREEDY = {"do_sample": False, "temperature": 0.1}


@pytest.mark.parametrize("generation", [None, GENERATION, GREEDY, {"eos_token_id": 5}])
def test_round_trip(tmp_path: Path, generation: dict[str, object] | None) -> None:
    config = make(generation)
    write_chat_config(tmp_path, config)
    assert read_chat_config(tmp_path) == config


def test_defaults_where_the_model_says_nothing() -> None:
    config = make()
    assert config.eos_token_ids == (2,) and config.sampling == RecommendedSettings()
    assert (config.sampling.temperature, config.sampling.top_p, config.sampling.min_p) == (0.7, 0.95, 0.05)
    assert config.sampling.max_tokens == 1024
    assert make(GREEDY).sampling == RecommendedSettings(temperature=0.0)  # its other values are not meant for use
    assert make({"temperature": "hot", "eos_token_id": "x"}).eos_token_ids == (2,)


def test_a_config_of_mlc_is_read(tmp_path: Path) -> None:
    stored = {
        "version": "0.1.0", "model_type": "llama", "quantization": "q4f16_1", "model_config": {"hidden_size": 4096},
        "vocab_size": 128256, "context_window_size": 131072, "sliding_window_size": -1, "prefill_chunk_size": 8192,
        "attention_sink_size": -1, "tensor_parallel_shards": 1, "pipeline_parallel_stages": 1, "temperature": 0.6,
        "presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0, "top_p": 0.9,
        "tokenizer_files": ["tokenizer.json", "tokenizer_config.json"], "conv_template": {"name": "llama-3_1"},
        "tokenizer_info": {"token_postproc_method": "byte_level"}, "pad_token_id": 0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
    }  # fmt: skip
    (tmp_path / CHAT_CONFIG_NAME).write_text(json.dumps(stored))
    config = read_chat_config(tmp_path)
    assert (config.vocab_size, config.eos_token_ids, config.sampling.top_k) == (128256, (128001, 128008, 128009), 0)
    (tmp_path / CHAT_CONFIG_NAME).write_text(json.dumps({**stored, "conv_template": "llama-2", "tokenizer_info": {}}))
    assert read_chat_config(tmp_path).conv_template is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"vocab_size": 0}, "`vocab_size` is `0`, not at least 1"), ({"vocab_size": None}, "`vocab_size` is `None`"),
        ({"context_window_size": "2k"}, "`context_window_size` is `'2k'`"), ({"temperature": "hot"}, "not a number"),
        ({"temperature": float("nan")}, "not a number"), ({"top_p": 0}, "`top_p` is `0`, not a number above 0"),
        ({"top_k": -1}, "`top_k` is `-1`, not a whole number from 0"), ({"stop": "a"}, "not a list"),
        ({"bad_words_ids": [[]]}, "not lists of whole"), ({"suppress_tokens": [True]}, "not a list of whole"),
        ({"max_tokens": 0}, "`max_tokens` is `0`"), ({"repeat_last_n": 10**30}, "not a whole number from -1"),
        ({"top_p": True}, "not a number"),
        ({"eos_token_id": "2"}, "`eos_token_id` is `'2'`"), ({"eos_token_id": ["2"]}, "list of whole numbers"),
        ({"tokenizer_files": "tokenizer.json"}, "not a list"), ({"model_config": []}, "not an object"),
        ({"tokenizer_files": ["../../etc/passwd"]}, r"`tokenizer_files\[0\]` is .* not a plain file name"),
        ({"conv_template": 7}, "not an object"), ({"prefill_chunk_size": -1}, "not at least 1"),
    ],
)  # fmt: skip
def test_a_malformed_config_is_refused(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    (tmp_path / CHAT_CONFIG_NAME).write_text(json.dumps({**make().to_json(), **change}))
    with pytest.raises(ArtefactError, match=sentence):
        read_chat_config(tmp_path)


def test_what_the_grammar_engine_wants_to_know() -> None:
    llama2 = {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "_"}, {"type": "Replace"}]},
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace"}, {"type": "ByteFallback"}, {"type": "Strip"}]},
    }
    assert tokenizer_info(llama2) == {
        "token_postproc_method": "byte_fallback", "prepend_space_in_encode": True, "strip_space_in_decode": True,
    }  # fmt: skip
    assert tokenizer_info({"pre_tokenizer": {"type": "Metaspace"}})["prepend_space_in_encode"] is True
    never = {"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "never"}, "decoder": {"type": "ByteLevel"}}
    assert tokenizer_info(never) == {
        "token_postproc_method": "byte_level", "prepend_space_in_encode": False, "strip_space_in_decode": False,
    }  # fmt: skip
    assert tokenizer_info({"decoder": [], "normalizer": {"type": "Sequence"}})["prepend_space_in_encode"] is False
