"""Components: slots and sources are made from their parts, in any mixture of layers."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace

import pytest

from argosy.model_defs.components import COMPONENTS
from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.component import FeedForward, Mixer
from argosy.model_defs.components.dense import GatedSpec, PlainSpec
from argosy.model_defs.components.norm import NormSpec
from argosy.model_defs.components.parts import MatrixPart, Part, Piece
from argosy.model_defs.family import Names
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec
from argosy.support.errors import UnsupportedModelError

HIDDEN = 48
ATTENTION = AttentionSpec(6, 2, 8, 1.0, qkv_bias=True, qk_norm=NormSpec("rms", 1e-6), qk_norm_scope="each_head")
GATED = GatedSpec(80, "silu")


@dataclass(frozen=True, slots=True)
class Twice:
    """A feed-forward that only this test has: two matrices that checkpoints call `left` and `right`, in one."""

    size: int

    def parts(self, hidden: int) -> dict[str, Part]:
        pieces = (Piece("left", self.size), Piece("right", self.size))
        return {"both": MatrixPart((2 * self.size, hidden), shard_axis=0, pieces=pieces)}


@dataclass(frozen=True, slots=True)
class Remembering:
    """A mixer that keeps another state than keys and values."""

    state_kind: str = "rnn_state"

    def parts(self, hidden: int) -> dict[str, Part]:
        return {}


def decoder(*layers: tuple[Mixer, FeedForward]) -> DecoderSpec:
    return DecoderSpec(
        model_type="probe",
        vocab_size=32,
        hidden_size=HIDDEN,
        layers=tuple(LayerSpec(*layer) for layer in layers),
        topology="pre_norm",
        norm=NormSpec("rms", 1e-6),
        context_window=128,
    )


def test_layers_may_differ() -> None:
    spec = decoder((ATTENTION, GATED), (replace(ATTENTION, kv_heads=6, qk_norm=None), PlainSpec(40, "relu")))
    shapes = {slot.name: slot.shape for slot in spec.slots()}
    assert shapes["model.layers.0.self_attn.qkv_proj"] == (80, HIDDEN)
    assert shapes["model.layers.1.self_attn.qkv_proj"] == (144, HIDDEN)
    assert shapes["model.layers.0.mlp.gate_up_proj"] == (160, HIDDEN)
    assert shapes["model.layers.1.mlp.up_proj"] == (40, HIDDEN)
    assert "model.layers.1.self_attn.q_norm.weight" not in shapes


def test_a_component_names_the_tensors_that_it_is_made_of() -> None:
    slots = {slot.name: slot for slot in decoder((ATTENTION, Twice(10))).slots()}
    sources = Names().sources(slots["model.layers.0.mlp.both"])
    assert [(s.name, s.shape) for s in sources] == [
        ("model.layers.0.mlp.left.weight", (10, HIDDEN)),
        ("model.layers.0.mlp.right.weight", (10, HIDDEN)),
    ]
    (whole,) = Names(merged=frozenset({"both"})).sources(slots["model.layers.0.mlp.both"])
    assert (whole.name, whole.shape) == ("model.layers.0.mlp.both.weight", (20, HIDDEN))


def test_what_can_be_sharded() -> None:
    axes = {slot.name.rpartition("0.")[2]: slot.shard_axis for slot in decoder((ATTENTION, GATED)).slots()}
    assert axes == {
        "model.embed_tokens": 0,
        "self_attn.qkv_proj": 0,
        "self_attn.qkv_proj.bias": 0,
        "self_attn.o_proj": 1,
        "self_attn.q_norm.weight": 0,
        "self_attn.k_norm.weight": 0,
        "mlp.gate_up_proj": 0,
        "mlp.down_proj": 1,
        "input_layernorm.weight": None,
        "post_attention_layernorm.weight": None,
        "model.norm.weight": None,
        "lm_head": 0,
    }


def test_pieces_fill_their_parameters() -> None:
    for slot in decoder((ATTENTION, GATED), (ATTENTION, PlainSpec(40, "relu", bias=True))).slots():
        assert not slot.pieces or sum(piece.rows for piece in slot.pieces) == slot.shape[0], slot


def test_state_of_two_kinds_is_refused() -> None:
    assert decoder((ATTENTION, GATED)).state_kind == "kv_cache"
    assert decoder((Remembering(), GATED)).state_kind == "rnn_state"
    with pytest.raises(UnsupportedModelError, match="`kv_cache and rnn_state`"):
        _ = decoder((ATTENTION, GATED), (Remembering(), GATED)).state_kind


def test_kinds_have_words_of_their_own() -> None:
    assert len(set(COMPONENTS.values())) == len(COMPONENTS)


def test_reading_a_model_loads_no_tvm() -> None:
    code = "import sys, argosy.model_defs.read; print(sorted({'tvm', 'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
