"""The real SmolLM2-135M GGUF: `keep` stores every weight exactly, `q4f16_1` reports what it rounds again."""

from __future__ import annotations

import numpy as np
import pytest

from argosy.dist.catalogue import resolve_model
from argosy.model_defs.checkpoint import Checkpoint, open_checkpoint
from argosy.model_defs.read import read_model
from argosy.quant.convert import convert, expected_tensors
from argosy.quant.formats import Tensors, unpack
from argosy.quant.plan import choose_formats
from argosy.quant.scheme import SCHEMES
from argosy.support.progress import SilentProgress


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(resolve_model("smollm2-135m").path)


def test_keep_stores_every_weight_exactly(checkpoint: Checkpoint) -> None:
    model = read_model(checkpoint)
    parameters = model.parameters
    plan = choose_formats(parameters, SCHEMES["keep"], checkpoint)
    assert {fmt.name for fmt in plan.formats.values()} == {"int4_min_f16", "int8_f16"}
    assert plan.notes == ()

    waiting = iter(parameters)
    parameter = next(waiting)
    stored: Tensors = {}
    emitted: list[tuple[str, tuple[int, ...], str]] = []

    def sink(name: str, array: np.ndarray) -> None:
        """Collect the tensors of a parameter, then compare it with the file."""
        nonlocal parameter, stored
        emitted.append((name, array.shape, str(array.dtype)))
        fmt = plan.format_of(parameter)
        stored[name.removeprefix(parameter.name).lstrip(".") or "weight"] = array
        if len(stored) < len(fmt.tensors(parameter.shape)):
            return
        first = 0
        for source in parameter.sources:
            values = source.rows(checkpoint.read(source.name))
            part = {suffix: tensor[first : first + len(values)] for suffix, tensor in stored.items()}
            assert np.array_equal(unpack(fmt, part, parameter.shape[-1]), values), source.name
            first += len(values)
        parameter, stored = next(waiting, parameter), {}

    convert(parameters, plan, checkpoint, "full", sink, SilentProgress(), ignorable=model.ignorable)
    assert emitted == expected_tensors(parameters, plan)
    assert next(waiting, None) is None


def test_rounding_again_is_announced(checkpoint: Checkpoint) -> None:
    parameters = read_model(checkpoint).parameters
    assert choose_formats(parameters, SCHEMES["q4f16_1"], checkpoint).notes == (
        "120 matrices stored as Q4_1, requantized to q4f16_1; for CPUs, --quantization keep loses nothing",
        "1 matrix stored as Q8_0, requantized to q4f16_1; for CPUs, --quantization keep loses nothing",
    )
