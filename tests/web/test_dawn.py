"""Dawn, Chromium's WebGPU, accepts the kernels of every family; it is stricter about barriers than naga."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from web.machine import LAVAPIPE, WEB, missing_lavapipe, run_node

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
sys.path.insert(0, str(Path(__file__).parents[1] / "backend" / "webgpu"))

from adapter import emulated, owner_of, shaders
from tiny_models import compile_model, save_model

from argosy.compiler.targets import target_named
from argosy.model_defs.families import FAMILIES

pytestmark = pytest.mark.skipif(missing_lavapipe() is not None, reason=str(missing_lavapipe()))

LIMITS = {"maxStorageBuffersPerShaderStage": 10}  # the JavaScript runtime requests these; WebGPU guarantees less
# llama runs in the other tests here; gemma3 is gemma3_text under other names.
TINY = {family: FAMILIES[family].tiny_config for family in FAMILIES if family not in ("llama", "gemma3")}
# The largest heads in use: their tiles have to fit into workgroup memory.
GEMMA3_HEADS = {"hidden_size": 640, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}


def refused(sources: dict[str, str]) -> dict[str, str]:
    """Validate WGSL with Dawn; return the reason for every shader that it refuses."""
    return run_node(WEB / "test/node/validate.mjs", timeout=120, icd=LAVAPIPE, shaders=sources, limits=LIMITS)


@pytest.mark.parametrize(
    ("family", "config"),
    [*TINY.items(), ("gemma3_text", {**TINY["gemma3_text"], **GEMMA3_HEADS})],
    ids=[*TINY, "gemma3_text with heads of 256"],
)
def test_every_family_is_taken(family: str, config: dict[str, Any], tmp_path: Path) -> None:
    save_model(config, tmp_path)
    model = compile_model(tmp_path, emulated(target_named("webgpu", scheme="q4f16_1")), "q4f16_1")
    found = {name: shader.source for name, shader in shaders(owner_of(model.executable)).items()}
    assert len(found) > 20
    assert refused(found) == {}


def test_what_is_wrong_is_refused() -> None:
    wrong = {
        "words": "no WGSL",
        "barrier": "@compute @workgroup_size(64) fn barrier(@builtin(local_invocation_index) i: u32)"
        " { if (i < 8) { workgroupBarrier(); } }",
        "large": "var<workgroup> a: array<f32, 5000>; @compute @workgroup_size(1) fn large() { a[0] = 1.0; }",
    }
    found = refused({**wrong, "sound": "@compute @workgroup_size(1) fn sound() { }"})
    assert found.keys() == wrong.keys()
    assert "uniform control flow" in found["barrier"] and "workgroup storage" in found["large"]
