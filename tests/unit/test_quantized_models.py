"""Compiled quantized models agree with torch on the dequantized weights: kernels read what the formats define."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import build_library, nmse, reference_logits, save_model

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import read_model
from argosy.quant.convert import convert
from argosy.quant.formats import unpack
from argosy.quant.plan import choose_formats
from argosy.quant.scheme import SCHEMES, scheme_named
from argosy.support.progress import SilentProgress

NMSE = 1e-7
IDS = [3, 17, 91, 4, 55, 23, 8, 120, 9, 64, 2, 77, 31, 5, 101, 13, 40, 66, 7, 19]


def _use_dequantized_weights(model: torch.nn.Module, directory: Path, quantization: str, rounding: str) -> None:
    """Replace the weights of `model` by the dequantized tensors of the checkpoint in `directory`."""
    checkpoint = open_checkpoint(directory)
    described = read_model(checkpoint)
    parameters = described.parameters
    plan = choose_formats(parameters, scheme_named(quantization), checkpoint)
    stored: dict[str, np.ndarray] = {}
    convert(
        parameters,
        plan,
        checkpoint,
        rounding,
        stored.__setitem__,
        SilentProgress(),
        ignorable=described.ignorable,
    )
    state = model.state_dict()
    for parameter in parameters:
        fmt = plan.format_of(parameter)
        if parameter.kind == "plain":
            values = stored[parameter.name].astype("float32")
        else:
            suffixes = fmt.tensors(parameter.shape)
            values = unpack(fmt, {s: stored[f"{parameter.name}.{s}"] for s in suffixes}, parameter.shape[1])
        start = 0
        for source in parameter.sources:
            rows = source.shape[0]
            state[source.name].copy_(torch.from_numpy(np.ascontiguousarray(values[start : start + rows])))
            start += rows
    model.tie_weights()


@pytest.mark.parametrize(
    ("quantization", "rounding"),
    [("q4f16_1", "rtn"), *((name, "full") for name in SCHEMES if name not in ("keep", "q0f32"))],
)
def test_logits_are_those_of_the_dequantized_weights(quantization: str, rounding: str, tmp_path: Path) -> None:
    model = save_model(FAMILIES["llama"].tiny_config, tmp_path)
    _use_dequantized_weights(model, tmp_path, quantization, rounding)
    library = build_library(tmp_path, quantization, rounding)
    reference = reference_logits(model, IDS)
    library.add(0)
    prompt = len(IDS) // 2
    assert nmse(library.prefill(0, IDS[:prompt]), reference[prompt - 1]) < NMSE
    for i in range(prompt, len(IDS)):
        assert nmse(library.forward("decode", {0: [IDS[i]]})[0, 0], reference[i]) < NMSE


def test_the_quantized_model_is_not_the_unquantized_one(tmp_path: Path) -> None:
    """If nothing were ever quantized, the reference included, the test above would still pass."""
    model = save_model(FAMILIES["llama"].tiny_config, tmp_path)
    library = build_library(tmp_path, "q4f16_1")
    library.add(0)
    assert nmse(library.prefill(0, IDS), reference_logits(model, IDS)[-1]) > 1e-4


# Rounding to int8 costs about 1 / 127 / sqrt(12) of a group's largest value; int16 is two planes of int8.
ROUNDED = {"int8": (1e-6, 3e-3), "int16": (1e-12, 1e-6)}


@pytest.mark.parametrize("quantization", ["q4f16_1", "q8f16_1"])
@pytest.mark.parametrize("activations", ROUNDED)
def test_rounded_inputs_stay_near_the_exact_model(activations: str, quantization: str, tmp_path: Path) -> None:
    save_model(FAMILIES["llama"].tiny_config, tmp_path)
    exact = build_library(tmp_path, quantization)
    rounded = build_library(tmp_path, quantization, activations=activations)
    least, most = ROUNDED[activations]
    for library in (exact, rounded):
        library.add(0)
    assert least < nmse(rounded.prefill(0, IDS), exact.prefill(0, IDS)) < most
    for token in IDS[:4]:
        logits = [library.forward("decode", {0: [token]})[0, 0] for library in (rounded, exact)]
        assert least < nmse(*logits) < most
