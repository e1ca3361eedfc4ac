"""Specs of every family: the networks of their tiny configs, and the configs that they refuse."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.model_defs.components import COMPONENTS
from argosy.model_defs.components.dense import PlainSpec
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import Model, read_model, read_spec
from argosy.model_defs.rope import ROPES
from argosy.quant.convert import check_sources
from argosy.support.errors import ArgosyError, CheckpointError, UnsupportedModelError, UsageError


def tiny(family: str, **changes: object) -> dict[str, object]:
    return {**copy.deepcopy(dict(FAMILIES[family].tiny_config)), **changes}


def described(config: dict[str, object], names: Iterable[str] = ()) -> Model:
    return read_model(NamesOnly(dict.fromkeys(names, ()), config))


# family -> topology, norm, feed-forward, norms of a layer, tensors of one layer, windows
EXPECTED = {
    "llama": ("pre_norm", "rms", "gated", 2, 6, {None}),
    "mistral": ("pre_norm", "rms", "gated", 2, 6, {24}),
    "qwen2": ("pre_norm", "rms", "gated", 2, 7, {None}),
    "qwen3": ("pre_norm", "rms", "gated", 2, 8, {None}),
    "gemma3_text": ("sandwich", "rms", "gated", 4, 10, {24, None}),
    "gemma3": ("sandwich", "rms", "gated", 4, 10, {24, None}),
    "phi3": ("pre_norm", "rms", "gated", 2, 6, {None}),
    "olmo2": ("post_norm", "rms", "gated", 2, 8, {None}),
    "gpt_neox": ("parallel", "layer", "plain", 2, 12, {None}),
    "gpt2": ("pre_norm", "layer", "plain", 2, 12, {None}),
    "stablelm": ("pre_norm", "layer", "gated", 2, 8, {None}),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_tiny_config(family: str) -> None:
    model = described(tiny(family))
    spec = model.spec
    topology, norm, feed_forward, norms, tensors, windows = EXPECTED[family]
    assert (spec.topology, spec.norm.kind, COMPONENTS[type(spec.layers[0].feed_forward)]) == (
        topology,
        norm,
        feed_forward,
    )
    assert len(spec.layer_norms) == norms
    assert sum(p.name.startswith("model.layers.0.") for p in model.parameters) == tensors
    assert {attention.window for attention in spec.attention} == windows
    assert spec.context_window == 128


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_fill_their_parameters(family: str) -> None:
    """Arrays of the sources' shapes, adapted and stacked, have the shape of the parameter."""
    config = tiny(family)
    seen: list[str] = []
    for parameter in described(config).parameters:
        rows = [source.rows(np.zeros(source.shape)) for source in parameter.sources]
        assert np.concatenate(rows).shape == parameter.shape, parameter
        seen += [source.name for source in parameter.sources]
    assert len(seen) == len(set(seen))


def test_each_head_of_a_norm_has_its_source() -> None:
    config = tiny("stablelm", qk_layernorm=True)
    parameters = {p.name: p for p in described(config).parameters}
    k_norm = parameters["model.layers.1.self_attn.k_norm.weight"]
    assert k_norm.shape == (2, 16)
    assert [s.name for s in k_norm.sources] == [
        f"model.layers.1.self_attn.k_layernorm.norms.{i}.weight" for i in range(2)
    ]


def test_digest_is_stable_and_tells_specs_apart() -> None:
    spec = read_spec(tiny("llama"))
    assert spec.digest() == read_spec(tiny("llama")).digest()
    others = [
        read_spec(tiny("llama"), 64),
        read_spec(tiny("llama", rms_norm_eps=1e-5)),
        read_spec(tiny("llama", rope_theta=10001.0)),
        read_spec(tiny("mistral")),
    ]
    assert len({s.digest() for s in (spec, *others)}) == 5
    # Recorded once: if one changes, existing libraries no longer match their configs.
    assert spec.digest() == "faf67079b4d2ca2a7450338dc9f43f5eb6e88ad35d8544e2419dec9c2fc2e690"


def test_digest_tells_components_of_the_same_numbers_apart() -> None:
    spec = read_spec(tiny("llama"))
    gated = spec.layers[0].feed_forward
    plain = PlainSpec(gated.size, gated.activation, gated.bias)
    others = tuple(dataclasses.replace(layer, feed_forward=plain) for layer in spec.layers)
    assert dataclasses.replace(spec, layers=others).digest() != spec.digest()


@pytest.mark.parametrize(
    ("family", "names", "expected"),
    [
        ("gpt2", ["wte.weight", "h.0.attn.c_attn.weight"], {"wte.weight", "h.0.attn.c_attn.weight"}),
        ("gpt2", ["transformer.wte.weight"], {"transformer.wte.weight"}),
        ("gemma3", ["language_model.model.norm.weight"], {"language_model.model.norm.weight"}),
        ("gemma3", ["model.language_model.norm.weight"], {"model.language_model.norm.weight"}),
        ("gpt_neox", ["lm_head.weight"], {"lm_head.weight"}),
        ("gpt_neox", ["embed_out.weight"], {"embed_out.weight"}),
    ],
)
def test_names_follow_the_spelling_of_the_checkpoint(family: str, names: list[str], expected: set[str]) -> None:
    config = tiny(family)
    used = {s.name for p in described(config, names).parameters for s in p.sources}
    assert expected <= used


class NamesOnly:
    """A checkpoint that has a config, and names and shapes of tensors, but no values but those of `tables`."""

    def __init__(
        self, shapes: dict[str, tuple[int, ...]], config: dict[str, object], tables: dict[str, np.ndarray] | None = None
    ) -> None:
        self.tables = tables or {}
        self.shapes = {**shapes, **{name: table.shape for name, table in self.tables.items()}}
        self.config = config

    def read(self, name: str) -> np.ndarray:
        return self.tables[name]

    def equal(self, one: str, other: str) -> bool:
        return np.array_equal(self.read(one), self.read(other))

    def names(self) -> tuple[str, ...]:
        return tuple(self.shapes)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]


@pytest.mark.parametrize("front", ["model.language_model.", "language_model.model."])
def test_the_text_half_of_a_model_that_sees_is_found(front: str) -> None:
    config = tiny("gemma3")
    text = {s.name: s.shape for p in described(config).parameters for s in p.sources}
    shapes = {name.replace("model.", front, 1): shape for name, shape in text.items()}
    tower = front.replace("language_model.model.", "").replace("language_model.", "") + "vision_tower.vision_model."
    shapes |= {f"{tower}embeddings.patch_embedding.bias": (8,)}
    checkpoint = NamesOnly(shapes, config)
    model = read_model(checkpoint)
    assert model.ignorable == (f"{tower}embeddings.patch_embedding.bias",)
    check_sources(model.parameters, checkpoint, model.ignorable)
    more = NamesOnly({**shapes, "audio_tower.bias": (8,)}, config)
    with pytest.raises(CheckpointError, match="audio_tower"):
        check_sources(model.parameters, more, read_model(more).ignorable)


def test_what_is_left_out_is_said() -> None:
    assert "vision" in described(tiny("gemma3")).notices[0]
    assert described(tiny("llama")).notices == ()


def test_sparse_gemma3_config_means_the_published_model() -> None:
    """The text part of the 4B model's config, complete."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    spec = read_spec({"model_type": "gemma3", "text_config": text})
    assert {(a.heads, a.kv_heads, a.head_dim) for a in spec.attention} == {(8, 4, 256)}
    assert (spec.vocab_size, spec.tied_embeddings, spec.context_window) == (262208, True, 131072)
    assert [i for i, attention in enumerate(spec.attention) if attention.window is None] == [5, 11, 17, 23, 29]
    assert [attention.rope for attention in spec.attention[:6]] == [1, 1, 1, 1, 1, 0]
    everywhere, nearby = spec.ropes
    assert everywhere.inverse_frequencies[0] == pytest.approx(1 / 8)
    assert everywhere.inverse_frequencies[-1] == pytest.approx(1e6 ** (-254 / 256) / 8, rel=1e-6)
    assert nearby.inverse_frequencies[-1] == pytest.approx(1e4 ** (-254 / 256), rel=1e-6)
    assert spec.embedding_scale == pytest.approx(math.sqrt(2560))


def test_null_and_absent_windows_differ() -> None:
    absent = {k: v for k, v in tiny("mistral").items() if k != "sliding_window"}
    absent["max_position_embeddings"] = 8192
    assert read_spec(absent).window == 4096
    assert read_spec({**absent, "sliding_window": None}).window is None


def test_a_window_that_hides_nothing_is_none() -> None:
    assert read_spec(tiny("mistral", sliding_window=64), 64).window is None
    assert read_spec(tiny("mistral", sliding_window=64), 65).window == 64


REFUSED = [
    ("llama", {"model_type": "mamba"}, "`mamba`"),
    ("llama", {"hidden_act": "xielu"}, "`hidden_act: xielu`"),
    ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding"),
    ("llama", {"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("qwen3", {"layer_types": ["full_attention", "linear_attention"]}, "linear_attention"),
    ("phi3", {"attention_bias": True}, "attention_bias"),
    ("phi3", {"lm_head_bias": True}, "lm_head_bias"),
    ("olmo2", {"clip_qkv": 8.0}, "clip_qkv"),
    ("gpt2", {"add_cross_attention": True}, "add_cross_attention"),
    ("stablelm", {"head_dim": 32}, "head_dim"),
    ("gpt_neox", {"rotary_pct": 0.2}, "rotating"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3_text", {"rope_parameters": {"rope_type": "default"}}, "rope_parameters"),
]


@pytest.mark.parametrize(("family", "changes", "word"), REFUSED)
def test_what_is_not_implemented_is_refused_by_name(family: str, changes: dict[str, object], word: str) -> None:
    with pytest.raises(UnsupportedModelError, match=word):
        read_spec(tiny(family, **changes))


MALFORMED = [
    ("llama", {"model_type": None}, "model_type"),
    ("llama", {"hidden_size": None}, "hidden_size"),
    ("llama", {"hidden_size": "64"}, "hidden_size"),
    ("llama", {"hidden_size": True}, "hidden_size"),
    ("llama", {"hidden_size": 63}, "heads"),
    ("llama", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ("llama", {"num_hidden_layers": 0}, "num_hidden_layers"),
    ("llama", {"num_key_value_heads": 3}, "`3` key/value heads"),
    ("llama", {"rms_norm_eps": -1e-6}, "rms_norm_eps"),
    ("llama", {"tie_word_embeddings": "yes"}, "tie_word_embeddings"),
    ("qwen2", {"layer_types": ["full_attention"]}, "layer_types"),
    ("qwen2", {"layer_types": ["full_attention", "sliding_attention"]}, "sliding_window"),
    ("gemma3", {"text_config": None}, "text_config"),
    ("gemma3", {"text_config": 3}, "text_config"),
]


@pytest.mark.parametrize(("family", "changes", "word"), MALFORMED)
def test_what_is_malformed_is_named(family: str, changes: dict[str, object], word: str) -> None:
    with pytest.raises(CheckpointError, match=word):
        read_spec(tiny(family, **changes))


@pytest.mark.parametrize("window", [0, -1, 129])
def test_a_context_window_out_of_range_is_a_usage_error(window: int) -> None:
    with pytest.raises(UsageError, match=str(window)):
        read_spec(tiny("gpt2"), window)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.sampled_from([10**400, 5e-324, 1e308, -1, 0, 0.5])
    | st.floats()
    | st.sampled_from(["", "yarn", "longrope", "sliding_attention", "gelu", "\x00"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["factor", "rope_type", "x"]), inner),
    max_leaves=5,
)
EXTRA_KEYS = (
    *("rope_scaling", "rope_parameters", "rope_theta", "head_dim", "layer_types", "sliding_window", "rms_norm_eps"),
    *("use_sliding_window", "max_window_layers", "partial_rotary_factor", "tie_word_embeddings", "hidden_act"),
    *("n_inner", "attention_bias", "original_max_position_embeddings", "query_pre_attn_scalar"),
)


ROPE_KEYS = (
    *("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale"),
    *("mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor", "rope_theta", "partial_rotary_factor"),
)
NUMBERS = st.sampled_from([5e-324, 1e-9, 0.5, 1, 2.5, 64, 1e30, 1e308]) | st.floats() | st.integers(1, 10**6)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(ROPES)), st.dictionaries(st.sampled_from(ROPE_KEYS), NUMBERS))
def test_no_rope_setting_gives_anything_but_numbers_or_one_sentence(kind: str, section: dict[str, object]) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8} if kind == "longrope" else {}
    try:
        spec = read_spec(tiny("phi3", rope_scaling={"rope_type": kind, **section, **factors}))
    except ArgosyError:
        return
    for rope in spec.ropes:
        assert all(0 < f < math.inf for f in (*rope.inverse_frequencies, rope.magnitude))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_config_gives_anything_but_a_spec_or_one_sentence(data: st.DataObject) -> None:
    config = tiny(data.draw(st.sampled_from(sorted(FAMILIES))))
    target = config.get("text_config", config)
    keys = st.sampled_from([*target, *EXTRA_KEYS])
    target.update(data.draw(st.dictionaries(keys, JSON, min_size=1, max_size=3)))
    try:
        model = described(config)
    except ArgosyError as error:
        assert "\n" not in error.message
        assert error.message[0].islower() or error.message[0] == "`"
    else:
        assert len(model.parameters) > 0
        for attention in model.spec.attention:
            assert all(value == value for value in dataclasses.astuple(attention))
