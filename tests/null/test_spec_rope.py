"""Rope settings of configs, in both spellings, give the same numbers as transformers."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from argosy.model_defs.components.rope import RopeSpec
from argosy.model_defs.config import Config
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import read_spec
from argosy.model_defs.rope import ROPES, read_settings, rope_spec
from argosy.support.errors import CheckpointError, UnsupportedModelError

HEAD_DIM, POSITIONS = 64, 4096
PAIRS = HEAD_DIM // 2
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 1024}
FACTORS = {"short_factor": [1.0 + i / 50 for i in range(PAIRS)], "long_factor": [2.0 + i / 3 for i in range(PAIRS)]}

CASES = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {"rope_type": "llama3", **LLAMA3},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    "yarn without a factor": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 1024},
    "yarn, every setting": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 256,
        "beta_fast": 20.0,
        "beta_slow": 2.0,
        "mscale": 0.7,
        "mscale_all_dim": 0.9,
        "truncate": False,
    },
    "yarn, given magnitude": {
        "rope_type": "yarn",
        "factor": 4.0,
        "attention_factor": 1.7,
        "original_max_position_embeddings": 1024,
    },
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": 1024, **FACTORS},
    "longrope, given factor": {
        "rope_type": "longrope",
        "factor": 32.0,
        "original_max_position_embeddings": 1024,
        **FACTORS,
    },
}


def ours(fields: dict[str, object], context_window: int = POSITIONS) -> RopeSpec:
    settings = read_settings(Config(fields), HEAD_DIM, positions=POSITIONS)
    return rope_spec(settings, context_window)


def theirs(section: dict[str, object], theta: float, seq_len: int | None) -> tuple[np.ndarray, float]:
    config = transformers.LlamaConfig(
        hidden_size=HEAD_DIM * 2,
        num_attention_heads=2,
        max_position_embeddings=POSITIONS,
        rope_parameters={**section, "rope_theta": theta},
    )
    if section["rope_type"] == "default":
        frequencies, magnitude = LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    else:
        frequencies, magnitude = ROPE_INIT_FUNCTIONS[section["rope_type"]](config, "cpu", seq_len=seq_len)
    return frequencies.numpy(), magnitude


@pytest.mark.parametrize("theta", [10000.0, 5e5])
@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_transformers(case: str, theta: float) -> None:
    section = CASES[case]
    frequencies, magnitude = theirs(dict(section), theta, POSITIONS)
    spec = ours({"rope_theta": theta, "rope_scaling": section})
    np.testing.assert_allclose(spec.inverse_frequencies, frequencies, rtol=2e-6)
    assert spec.magnitude == pytest.approx(magnitude, rel=1e-12)
    assert spec.rotary_dim == HEAD_DIM


@pytest.mark.parametrize("case", CASES)
def test_both_spellings_mean_the_same(case: str) -> None:
    section = CASES[case]
    old = {key if key != "rope_type" else "type": value for key, value in section.items()}
    assert ours({"rope_parameters": {**section, "rope_theta": 7e4}}) == ours({"rope_theta": 7e4, "rope_scaling": old})


def test_every_rope_type_is_covered() -> None:
    assert {case["rope_type"] for case in CASES.values()} == set(ROPES)


@pytest.mark.parametrize(("window", "seq_len"), [(1024, 1024), (1025, 1025)])
def test_longrope_is_decided_by_the_context_window(window: int, seq_len: int) -> None:
    section = CASES["longrope"]
    frequencies, _ = theirs(dict(section), 10000.0, seq_len)
    np.testing.assert_allclose(ours({"rope_scaling": section}, window).inverse_frequencies, frequencies, rtol=2e-6)


def test_what_was_trained_outside_the_section_has_priority() -> None:
    inside = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
    outside = {"rope_scaling": inside, "original_max_position_embeddings": 512}
    assert ours(outside) == ours({"rope_scaling": {**inside, "original_max_position_embeddings": 512}})
    assert ours(outside) != ours({"rope_scaling": inside})


def test_the_context_may_be_as_long_as_the_extension() -> None:
    tiny = {**FAMILIES["qwen2"].tiny_config, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
    assert read_spec(tiny).context_window == 128
    assert read_spec(tiny, 512).context_window == 512


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"rope_scaling": {"rope_type": "spiral"}}, "`spiral`"),
        ({"rope_scaling": {"rope_type": "default", "mrope_section": [2, 3, 3]}}, "mrope_section"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "layer type"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(fields: dict[str, object], word: str) -> None:
    with pytest.raises(UnsupportedModelError, match=word):
        ours(fields)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"rope_theta": 1.0}, "rope_theta"),
        ({"rope_theta": "many"}, "rope_theta"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e-300}}, "not finite"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "long_factor"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "low_freq_factor": 4.0}}, "low_freq_factor"),
        ({"rope_scaling": ["linear"]}, "rope_scaling"),
    ],
)
def test_what_is_malformed_is_named(fields: dict[str, object], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        ours(fields)
