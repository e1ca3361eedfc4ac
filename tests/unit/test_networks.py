"""Networks as modules: the parameters that they export are their slots, in the same order, even if layers differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tvm
from tvm import relax

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.dense import GatedSpec, PlainSpec
from argosy.model_defs.components.modules import Storage
from argosy.model_defs.components.norm import NormSpec
from argosy.model_defs.components.rope import RopeSpec
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec
from argosy.model_defs.networks.modules import build_module
from argosy.model_defs.read import read_spec
from argosy.quant.scheme import F16, F32, INT4_F16

CALL_TIR = tvm.ir.Op.get("relax.call_tir")
ATTENTION = AttentionSpec(4, 2, 16, 0.25, qk_norm=NormSpec("rms", 1e-6))
MIXED = DecoderSpec(
    model_type="probe",
    vocab_size=32,
    hidden_size=64,
    layers=(
        LayerSpec(ATTENTION, GatedSpec(96, "silu")),
        LayerSpec(replace(ATTENTION, rope=None, qk_norm=None, output_bias=True), PlainSpec(40, "relu", bias=True)),
    ),
    topology="sandwich",
    norm=NormSpec("layer", 1e-6, bias=True),
    context_window=128,
    ropes=(RopeSpec(16, (1.0,) * 8),),
    head_bias=True,
)
NETWORKS = {"mixed": MIXED, **{name: read_spec(family.tiny_config) for name, family in FAMILIES.items()}}


@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_are_the_slots(name: str) -> None:
    network = NETWORKS[name]
    slots = list(network.slots())
    matrices = {slot.name: INT4_F16 for slot in slots if slot.kind != "plain"}
    storage = Storage(matrices, F16)
    mod, parameters = build_module(network, storage).export(["embed", "batch_verify"])
    expected = []
    for slot in slots:
        if slot.kind == "plain":
            expected.append((slot.name, slot.shape, F16.dtype))
        else:
            tensors = matrices[slot.name].tensors(slot.shape).items()
            expected += [(f"{slot.name}.{suffix}", shape, dtype) for suffix, (shape, dtype) in tensors]
    assert [(name, tuple(map(int, p.shape)), str(p.dtype)) for name, p in parameters] == expected
    assert {"embed", "batch_verify"} <= {var.name_hint for var in mod.get_global_vars()}


def test_layers_without_a_rope_are_not_rotated() -> None:
    storage = Storage({slot.name: F32 for slot in MIXED.slots() if slot.kind != "plain"}, F32)
    mod, _ = build_module(MIXED, storage).export(["prefill"])
    called: list[str] = []

    def visit(expression: object) -> None:
        if isinstance(expression, relax.Call) and expression.op == CALL_TIR:
            called.append(expression.args[0].name_hint)

    relax.analysis.post_order_visit(mod["prefill"], visit)
    assert sorted(name for name in called if name.startswith("rope")) == ["rope", "rope_table"]
