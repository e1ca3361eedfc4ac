"""Devices are records: a runner over memory that numpy cannot see computes the same, and sampling may stay there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_runner import GREEDY, ToyRunner, answer, drain, greedy_reference, prompt_of

from argosy.dist.artefact import open_artefact
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.device import DEVICES, Device, Logits, open_device
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.request import Request
from argosy.runtime_bindings.engine.sampler import Sample
from argosy.support.errors import ArgosyError, TargetError

WINDOW, CHUNK = 64, 16


@dataclass(frozen=True)
class FarLogits:
    """Logits that must not be fetched."""

    tensor: np.ndarray

    def numpy(self) -> np.ndarray:
        raise AssertionError("the logits were copied to the host")


class FarRunner(ToyRunner):
    def forward(self, batch: Batch) -> FarLogits:  # type: ignore[override]
        return FarLogits(super().forward(batch).array)


class FarSampler:
    """A `TokenSampler` that looks at logits where they are. It keeps of each request how often it was sampled."""

    def begin(self, params: SamplingParams) -> list[int]:
        assert params.temperature == 0
        return [0]

    def sample(
        self, logits: Logits, requests: Sequence[list[int]], histories: Sequence[Sequence[int]]
    ) -> list[Sample | ArgosyError]:
        rows = logits.tensor
        assert len(rows) == len(requests) == len(histories)
        for request in requests:
            request[0] += 1
        return [Sample(int(token), None) for token in rows.argmax(axis=1)]


def test_engine_samples_on_the_device_that_holds_the_logits() -> None:
    engine = Engine(FarRunner(chunk=4), sampler=FarSampler())
    ids = [engine.add(Request(prompt=prompt_of(n, n), sampling=GREEDY, max_tokens=6)) for n in (3, 7, 9)]
    states = [engine._active[request].sampling for request in ids]
    events = drain(engine)
    for request, n in zip(ids, (3, 7, 9), strict=True):
        assert answer(events[request]) == greedy_reference(prompt_of(n, n), 6)
    assert states == [[6]] * 3, "a prompt that is not read to its end is not sampled from"


def test_a_device_that_is_not_driven_is_refused() -> None:
    assert open_device("cpu").name == "cpu"
    with pytest.raises(TargetError, match="does not drive the device `abacus`") as caught:
        open_device("abacus")
    assert caught.value.hint is not None and "cpu" in caught.value.hint


@pytest.fixture
def artefact(tiny_artefact: Callable[..., Path], tmp_path: Path) -> Path:
    """A library that packs its weights."""
    shared = tiny_artefact(quantization="q4f16_1", context_window=WINDOW, prefill_chunk=CHUNK, max_batch=4)
    return Path(shutil.copytree(shared, tmp_path / "artefact"))


def runner_of(artefact: Path, cache_packed: bool = False) -> LibraryRunner:
    opened = open_artefact(artefact)
    library = load_library(opened)
    return LibraryRunner(library, load_weights(opened, library, cache_packed), max_batch=4)


def nmse(value: np.ndarray, reference: np.ndarray) -> float:
    return float(np.sum((value - reference) ** 2) / np.sum(reference**2))


def forward(runner: LibraryRunner, *chunks: Chunk) -> np.ndarray:
    return runner.forward(Batch(chunks)).numpy().copy()


def several_passes(runner: LibraryRunner) -> list[np.ndarray]:
    """Every entry point, and every kind of wanted logits."""
    for sequence in range(3):
        runner.store.add(sequence)
    return [
        forward(runner, Chunk(0, prompt_of(CHUNK), "none")),
        forward(runner, Chunk(0, prompt_of(5))),
        forward(runner, Chunk(0, [1]), Chunk(1, prompt_of(9)), Chunk(2, prompt_of(6), "none")),
        forward(runner, Chunk(2, [2])),
        forward(runner, Chunk(0, [3]), Chunk(1, [4], "none"), Chunk(2, [5])),
        forward(runner, Chunk(0, [6, 7, 8], "all"), Chunk(1, [9, 10]), Chunk(2, [11], "none")),
        forward(runner, Chunk(1, [12], "all")),
    ]


def test_memory_that_numpy_cannot_see_changes_nothing(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = several_passes(runner_of(artefact))
    assert [len(rows) for rows in expected] == [0, 1, 2, 1, 2, 4, 1]
    cpu = open_device("cpu")
    placed: list[Any] = []

    class Far(Device):
        def place(self, tensor: Any) -> Any:
            placed.append(tensor)
            return super().place(tensor)

    monkeypatch.setitem(DEVICES, "cpu", lambda: Far("far", cpu.handle, shares_memory=False))
    for _ in range(3):  # packed, packed and kept, mapped
        runner = runner_of(artefact, cache_packed=len(placed) > 0)
        assert runner.library.device.name == "far" and placed
        for rows, same in zip(several_passes(runner), expected, strict=True):
            assert np.array_equal(rows, same)
        logits = runner.forward(Batch([Chunk(0, [1])]))
        assert logits.tensor is not None and not np.shares_memory(logits.numpy(), logits.numpy())


@pytest.mark.parametrize("wanted", ["last", "all"])
def test_chunks_of_a_batch_get_the_logits_that_they_get_alone(artefact: Path, wanted: Any) -> None:
    """Prompts get the same bits. The row of a running answer gets nearly the same: beside prompts its attention comes
    from the kernels of prompts, which round the part from the cache to float16."""
    prompts = [prompt_of(n, n) for n in (7, 12)]

    def started() -> LibraryRunner:
        runner = runner_of(artefact)
        for sequence in range(3):
            runner.store.add(sequence)
        forward(runner, Chunk(0, prompt_of(CHUNK)))
        return runner

    runner = started()
    chunks = [Chunk(s, tokens, wanted) for s, tokens in enumerate(([1], prompts[0], prompts[1][:8]))]
    alone = np.concatenate([forward(runner, chunk) for chunk in chunks])
    together = forward(started(), *chunks)
    assert np.array_equal(together[1:], alone[1:])
    assert nmse(together[0], alone[0]) < 1e-4
