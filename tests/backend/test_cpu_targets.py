"""Whole libraries for every CPU target that this machine can run: golden transcripts, and int8."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from test_golden import PROMPT, SCALE, golden_ids, transcript
from tiny_checkpoint import save_checkpoint
from tiny_models import TinyLibrary, build_library, hurried, nmse

from argosy.compiler.targets.cpu.processors import PROCESSORS, Processor
from argosy.compiler.targets.cpu.target import processor_target
from argosy.compiler.targets.record import TargetRecord

# Not targets: CPUs without any int8 instruction.
PLAIN = (
    Processor("x86_64", "any x86-64", "x86_64", "x86-64", (), frozenset({"sse", "sse2"})),
    Processor("aarch64", "any 64-bit ARM", "aarch64", "generic", (), frozenset({"fp-armv8", "neon"})),
)
CPUS = [
    pytest.param(cpu, id=cpu.name, marks=pytest.mark.skipif(not cpu.runs_here(), reason=f"no {cpu.name} here"))
    for cpu in (*PLAIN, *PROCESSORS.values())
]
every_cpu = pytest.mark.parametrize("cpu", CPUS)


def record(cpu: Processor, activations: str, kv: str = "f32") -> TargetRecord:
    return hurried(processor_target(cpu, activations, kv))


def forced_logits(library: TinyLibrary, ids: list[int]) -> np.ndarray:
    """Compute the logits after the prompt and after all of `ids` but the last, whatever the library would choose."""
    library.add(0)
    rows = [library.prefill(0, PROMPT)]
    rows += [library.forward("decode", {0: [token]})[0, 0] for token in ids[:-1]]
    return np.stack(rows)


@every_cpu
def test_the_golden_transcript_in_exact_mode(cpu: Processor, tmp_path: Path) -> None:
    library = build_library(save_checkpoint(tmp_path, scale=SCALE), target=record(cpu, "f32"))
    assert transcript(library) == golden_ids()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("cpu", CPUS[: len(PLAIN)])
def test_keys_and_values_in_16_bits_cost_little_where_no_instruction_converts_them(
    cpu: Processor, checkpoint: Path
) -> None:
    half, exact = (build_library(checkpoint, target=record(cpu, "f32", kv)) for kv in ("f16", "f32"))
    assert 1e-12 < nmse(forced_logits(half, golden_ids()), forced_logits(exact, golden_ids())) < 1e-5


@pytest.fixture(scope="module")
def portable_and_exact(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a 4-bit model without int8 instructions: in int8, and in float32."""
    cpu = next(cpu for cpu in PLAIN if cpu.runs_here())
    int8, exact = (build_library(checkpoint, "q4f16_1", target=record(cpu, kind)) for kind in ("int8", "f32"))
    return forced_logits(int8, golden_ids()), forced_logits(exact, golden_ids())


def test_products_of_bytes_are_near_the_exact_ones(portable_and_exact: tuple[np.ndarray, np.ndarray]) -> None:
    assert 1e-6 < nmse(*portable_and_exact) < 1e-2


@pytest.mark.parametrize("cpu", CPUS[len(PLAIN) :])
def test_products_of_bytes_are_the_same_on_every_cpu(
    cpu: Processor, checkpoint: Path, portable_and_exact: tuple[np.ndarray, np.ndarray]
) -> None:
    """Integer sums are exact; only the order of float32 additions, and roundings that depend on it, may differ."""
    library = build_library(checkpoint, "q4f16_1", target=record(cpu, "int8"))
    assert nmse(forced_logits(library, golden_ids()), portable_and_exact[0]) < 1e-5
