"""What makers recommend is done, as transformers does it, or named; and nothing they write spoils an artefact."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_steps import adjust, truncate

from argosy.dist.chat_config import ChatConfig, make_chat_config, model_settings, read_chat_config, write_chat_config
from argosy.dist.recommended import UNSUPPORTED, RecommendedSettings
from argosy.runtime_bindings.chat.generation import GenerationConfig, model_defaults
from argosy.runtime_bindings.engine.params import check_vocabulary

VOCAB = 60
EOS = 2
HISTORY = [5, 9, 7, 5, 9, 11, 40, 41, 7, 5, 9]


def built(folder: Path, files: dict[str, bytes], model_config: dict[str, Any], **more: Any) -> ChatConfig:
    """Make a chat config, write it, and return it as it is read."""
    made = make_chat_config(
        model_type="llama", quantization="q0f32", model_config=model_config, vocab_size=VOCAB,
        context_window_size=512, prefill_chunk_size=9, max_batch_size=1, tokenizer_files=files, **more,
    )  # fmt: skip
    write_chat_config(folder, made)
    assert read_chat_config(folder) == made
    return made


def defaults(folder: Path, generation: object, **more: Any) -> GenerationConfig:
    files = {} if generation is None else {"generation_config.json": json.dumps(generation).encode()}
    return model_defaults(built(folder, files, more.pop("model_config", {}), **more))


def notes(generation: dict[str, Any]) -> str:
    files = {"generation_config.json": json.dumps(generation).encode()}
    return "\n".join(model_settings(files, {}, None, VOCAB, 512)[1])


def of_transformers(generation: dict[str, Any], logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits after the processors of transformers, and after its cuts, which ban by minus infinity."""
    import torch
    from transformers import GenerationConfig as Theirs
    from transformers.generation.logits_process import LogitsProcessorList, TemperatureLogitsWarper
    from transformers.generation.utils import GenerationMixin

    config = Theirs.from_dict(generation | {"eos_token_id": EOS})
    config.update(defaults_only=True, **Theirs._get_default_generation_params())
    config._eos_token_tensor = torch.tensor([EOS])
    model: Any = SimpleNamespace(
        config=SimpleNamespace(is_encoder_decoder=False), _merge_criteria_processor_list=lambda ours, given: ours
    )

    def run(samples: bool) -> np.ndarray:
        config.do_sample = samples
        steps = GenerationMixin._get_logits_processor(
            model, config, input_ids_seq_length=len(HISTORY), logits_processor=LogitsProcessorList()
        )
        scores = torch.from_numpy(logits.copy())[None]
        for step in steps:  # the temperature comes last in our order
            if not isinstance(step, TemperatureLogitsWarper):
                scores = step(torch.tensor([HISTORY]), scores)
        return scores[0].numpy()

    samples = config.do_sample
    return run(False), run(samples)


@pytest.mark.parametrize(
    "generation",
    [
        {"do_sample": False},
        {"do_sample": False, "temperature": 0.3, "top_p": 0.2},
        {"do_sample": False, "repetition_penalty": 1.1},
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
        {"do_sample": True, "temperature": 1.0},
        {"do_sample": True, "top_p": 0.8, "top_k": 20, "temperature": 0.7, "repetition_penalty": 1.05},
        {"do_sample": True, "top_k": 0, "top_p": 0.95},
        {"do_sample": True, "top_k": 1, "top_p": 1.0},
        {"do_sample": True, "min_p": 0.1, "temperature": 1.0},
        {"do_sample": True, "min_p": 0.05, "top_p": 0.9, "top_k": 30},
        {"do_sample": True, "top_k": 64, "top_p": 0.95, "temperature": 1.0},
        {"do_sample": True, "typical_p": 0.6, "top_k": 0},
        {"do_sample": True, "temperature": 0.6, "top_p": 0.95, "repetition_penalty": 1.3},
        {"do_sample": True, "temperature": 0.6, "repetition_penalty": 0.8},
        {"do_sample": False, "no_repeat_ngram_size": 3},
        {"do_sample": False, "no_repeat_ngram_size": 2},
        {"do_sample": False, "no_repeat_ngram_size": 1},
        {"do_sample": False, "no_repeat_ngram_size": 40},
        {"do_sample": False, "suppress_tokens": [3, 17, 17, EOS]},
        {"do_sample": False, "begin_suppress_tokens": [8, 9]},
        {"do_sample": False, "bad_words_ids": [[4], [EOS], [5, 9, 13], [9, 14], [7, 9, 15], [9], [41, 7, 5, 9, 33]]},
        {"do_sample": True, "top_p": 0.7, "bad_words_ids": [[4]], "suppress_tokens": [6], "repetition_penalty": 1.2},
        {"do_sample": True, "temperature": 0.2, "top_p": 0.9, "max_new_tokens": 77, "no_repeat_ngram_size": 3},
        {"do_sample": False, "no_repeat_ngram_size": 2, "repetition_penalty": 1.4, "bad_words_ids": [[9, 7]]},
    ],
    ids=str,
)
def test_settings_do_what_they_do_in_transformers(tmp_path: Path, generation: dict[str, Any]) -> None:
    ours = defaults(tmp_path, generation | {"eos_token_id": EOS})
    assert not notes(generation)
    samples = generation["do_sample"]
    assert ours.temperature == (generation.get("temperature", 1.0) if samples else 0.0)
    assert ours.max_tokens == generation.get("max_new_tokens", 1024)
    for seed in range(3):
        logits = (np.random.default_rng(seed).normal(size=VOCAB) * 2).astype(np.float32)
        processed, cut = of_transformers(generation, logits)
        adjusted = adjust(logits, ours, HISTORY)
        np.testing.assert_allclose(adjusted, processed, rtol=1e-6)
        if samples:
            ids, _ = truncate(adjusted, ours)
            expected = np.flatnonzero(np.isfinite(cut))
            assert (np.arange(VOCAB) if ids is None else ids).tolist() == expected.tolist()


def test_a_model_that_recommends_nothing_gets_the_defaults(tmp_path: Path) -> None:
    expected = GenerationConfig()
    assert (expected.temperature, expected.top_p, expected.min_p, expected.max_tokens) == (0.7, 0.95, 0.05, 1024)
    for nothing in (None, {}, {"eos_token_id": 2}, {"do_sample": True}, {"top_k": -1}, {"temperature": None}):
        assert defaults(tmp_path, nothing) == expected, nothing


def test_a_penalty_covers_everything_unless_the_model_says_otherwise(tmp_path: Path) -> None:
    assert defaults(tmp_path, {"repetition_penalty": 1.1}).repeat_last_n == -1
    assert defaults(tmp_path, {"repetition_penalty": 1.1}).temperature == 0.7
    assert defaults(tmp_path, {"repetition_penalty": 1.1, "repeat_last_n": 128}).repeat_last_n == 128
    assert defaults(tmp_path, {"repetition_penalty": 1.0}).repeat_last_n == GenerationConfig().repeat_last_n
    config = built(tmp_path, {}, {}).to_json() | {"repetition_penalty": 1.2}  # of an MLC that has no window
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))
    assert model_defaults(read_chat_config(tmp_path)).repeat_last_n == -1


def test_an_mlc_config_without_sampling_gets_the_defaults(tmp_path: Path) -> None:
    config = built(tmp_path, {}, {}).to_json()
    for name in ("temperature", "top_p", "top_k", "min_p"):
        del config[name]
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config))
    assert model_defaults(read_chat_config(tmp_path)) == GenerationConfig()
    (tmp_path / "mlc-chat-config.json").write_text(json.dumps(config | {"temperature": 0.6}))
    assert model_defaults(read_chat_config(tmp_path)) == GenerationConfig(temperature=0.6, top_p=1.0, min_p=0.0)


def test_settings_in_config_json_count_where_there_is_no_generation_config(tmp_path: Path) -> None:
    """As in transformers, which takes over what is not at its default."""
    old = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "num_beams": 1, "max_length": 20}
    assert defaults(tmp_path, None, model_config=old) == GenerationConfig()
    chosen = defaults(tmp_path, None, model_config=old | {"do_sample": True, "temperature": 0.5})
    assert (chosen.temperature, chosen.top_p) == (0.5, 1.0)
    assert defaults(tmp_path, None, model_config={"text_config": {"top_p": 0.4}}).top_p == 0.4
    assert defaults(tmp_path, {"eos_token_id": 2}, model_config={"temperature": 0.5}) == GenerationConfig()


def test_a_preset_is_for_a_model_that_recommends_nothing(tmp_path: Path) -> None:
    preset = {"temperature": 0.2, "top_p": 0.9}
    chosen = defaults(tmp_path, {"eos_token_id": 2}, preset=preset)
    assert (chosen.temperature, chosen.top_p, chosen.min_p) == (0.2, 0.9, 0.0)
    assert defaults(tmp_path, {"temperature": 0.5}, preset=preset).temperature == 0.5
    assert defaults(tmp_path, {"do_sample": False}, preset=preset).temperature == 0.0


def test_stop_strings_are_one_or_several(tmp_path: Path) -> None:
    assert defaults(tmp_path, {"stop_strings": "User:"}).stop == ("User:",)
    assert defaults(tmp_path, {"stop_strings": ["User:", "\n\n"]}).stop == ("User:", "\n\n")
    assert defaults(tmp_path, {"stop_strings": ["x" * 1001, "", 7, "a"]}).stop == ("a",)
    assert len(defaults(tmp_path, {"stop_strings": [str(n) for n in range(40)]}).stop) == 16
    assert GenerationConfig(stop="a") == GenerationConfig(stop=["a"]) == GenerationConfig(stop=("a",))


def test_greedy_by_a_mass_of_nothing(tmp_path: Path) -> None:
    for generation in ({"temperature": 0, "top_p": 0}, {"top_p": 0}, {"temperature": 0.0}, {"top_p": 0, "top_k": 5}):
        assert defaults(tmp_path, generation).temperature == 0.0


@pytest.mark.parametrize(
    ("generation", "note"),
    [
        ({"num_beams": 4}, "`num_beams=4`, which is not supported"), ({"penalty_alpha": 0.6}, "`penalty_alpha=0.6`"),
        ({"epsilon_cutoff": 3e-4}, "`epsilon_cutoff=0.0003`"), ({"eta_cutoff": 0.002}, "`eta_cutoff=0.002`"),
        ({"min_new_tokens": 5}, "`min_new_tokens=5`"), ({"forced_eos_token_id": 2}, "`forced_eos_token_id=2`"),
        ({"exponential_decay_length_penalty": [9, 1.1]}, "`exponential_decay_length_penalty=[9, 1.1]`"),
        ({"sequence_bias": [[[1], 2.0]]}, "`sequence_bias=[[[1], 2.0]]`"), ({"max_time": 3.0}, "`max_time=3.0`"),
        ({"guidance_scale": 1.5}, "`guidance_scale=1.5`"), ({"token_healing": True}, "`token_healing=True`"),
        ({"max_length": 100}, "--context-window 100"), ({"top_k": -5}, "`top_k=-5`, which is left out"),
        ({"top_p": 1.5}, "`top_p=1.5`, which is left out: it must be a number above 0 and up to 1"),
        ({"temperature": "hot"}, "`temperature=hot`"), ({"temperature": True}, "`temperature=True`"),
        ({"temperature": -1}, "from 0 to 100"), ({"top_k": 10**40}, "whole number"), ({"top_k": 2.5}, "`top_k=2.5`"),
        ({"repetition_penalty": 0}, "`repetition_penalty=0`"), ({"do_sample": "yes"}, "true or false"),
        ({"suppress_tokens": [1, VOCAB]}, f"`suppress_tokens={VOCAB}`"), ({"bad_words_ids": [[1], []]}, "=[]`"),
        ({"bad_words_ids": [3]}, "`bad_words_ids=3`"), ({"stop_strings": [""]}, "strings of 1 to 1000"),
        ({"no_repeat_ngram_size": -1}, "whole number from 0"), ({"max_new_tokens": 0}, "whole number from 1"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_named(tmp_path: Path, generation: dict[str, Any], note: str) -> None:
    assert note in notes(generation) and "\n" not in notes(generation)
    defaults(tmp_path, generation)


def test_values_that_change_nothing_are_not_named() -> None:
    neutral = {name: values[0] for name, values in UNSUPPORTED.items() if values}
    others = {"use_cache": True, "transformers_version": "4.1", "renormalize_logits": True, "max_length": 512,
              "length_penalty": 1.0, "early_stopping": False, "output_scores": False, "top_k": 50.0}  # fmt: skip
    assert notes(neutral | others | dict.fromkeys(UNSUPPORTED, None)) == notes(neutral | others) == ""


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
NAMES = ("temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "presence_penalty",
         "frequency_penalty", "repeat_last_n", "no_repeat_ngram_size", "suppress_tokens", "begin_suppress_tokens",
         "bad_words_ids", "stop_strings", "max_new_tokens", "do_sample", "max_length", "num_beams", "eos_token_id",
         "pad_token_id", "bos_token_id", "sequence_bias", "guidance_scale")  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), JUNK | st.sampled_from([0, -1, 1, 1e300, 2**63, [[1]], [1], ["a"]])))
def test_whatever_is_recommended_the_artefact_can_be_opened(
    tmp_path_factory: pytest.TempPathFactory, generation: dict[str, Any]
) -> None:
    config = defaults(tmp_path_factory.getbasetemp(), generation)
    check_vocabulary(config, VOCAB)
    assert all(math.isfinite(getattr(config, name)) for name in ("temperature", "top_p", "min_p"))
    assert defaults(tmp_path_factory.getbasetemp(), None, model_config=generation)


def test_settings_have_the_defaults_of_the_runtime() -> None:
    assert GenerationConfig(**dataclasses.asdict(RecommendedSettings())) == GenerationConfig()
