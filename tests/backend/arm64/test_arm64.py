"""Kernels and whole models for arm64, run in qemu and compared with numpy, golden transcripts and this CPU.

qemu's `neoverse-n1` has int8 dot products but not i8mm, so a library that used more would crash there.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import tirx

sys.path.insert(0, str(Path(__file__).parents[2] / "unit"))
sys.path.insert(0, str(Path(__file__).parents[1]))

import test_dot_kernels as dot_kernels
from arm64.qemu import Machine, Remote, missing
from test_cpu_targets import PLAIN, forced_logits, record
from test_golden import SCALE, golden_ids, transcript
from test_same_bits import MODELS, check_schedules
from tiny_checkpoint import save_checkpoint
from tiny_models import TinyLibrary, build_library, compile_model, hurried, nmse

from argosy.compiler.kernels.cpu.linear import DotLinear, TileShape
from argosy.compiler.kernels.cpu.linear.instruction import NEON_DOTPROD, NEON_I8MM, PORTABLE, DotInstruction
from argosy.compiler.kernels.linear import InputNorm, LinearKernel
from argosy.compiler.targets import target_named
from argosy.compiler.targets.cpu.target import linear_plan
from argosy.compiler.targets.record import TargetRecord
from argosy.quant.scheme import INT4_F16, INT4_MIN_F16, INT8_F16, Format
from argosy.runtime_bindings.engine.packing import pack

REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

QEMU_CPUS = {"arm64": "neoverse-n1", "arm64-i8mm": "max"}
INSTRUCTIONS = {
    "dotprod": (NEON_DOTPROD, "arm64"), "i8mm": (NEON_I8MM, "arm64-i8mm"), "portable": (PORTABLE, "arm64"),
}  # fmt: skip
every_instruction = pytest.mark.parametrize("name", INSTRUCTIONS)
every_target = pytest.mark.parametrize("target", QEMU_CPUS)


@pytest.fixture(scope="module")
def emulated() -> Iterator[Callable[[str], Remote]]:
    """One emulated process per target, started on first use."""
    running: dict[str, Remote] = {}

    def remote(target: str) -> Remote:
        if target not in running:
            running[target] = Remote(QEMU_CPUS[target])
        return running[target]

    yield remote
    for process in running.values():
        process.close()


@pytest.fixture
def on_arm(emulated: Callable[[str], Remote], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the kernel tests of this CPU compile for the emulator and run in it."""
    target_of = {instruction: target for instruction, target in INSTRUCTIONS.values()}

    def compiled(function: tirx.PrimFunc, instruction: DotInstruction) -> Callable[..., None]:
        remote = emulated(target_of[instruction])
        module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
        built = tvm.compile(module, target=target_named(target_of[instruction]).tvm_target)
        return remote.kernel("main", remote.load(built).name)

    monkeypatch.setattr(dot_kernels, "compiled", compiled)


@pytest.mark.usefixtures("on_arm")
@every_instruction
@pytest.mark.parametrize("fmt", [INT4_F16, INT4_MIN_F16, INT8_F16], ids=lambda fmt: fmt.name)
def test_linear_kernels(name: str, fmt: Format) -> None:
    instruction, _ = INSTRUCTIONS[name]
    dot_kernels.check(LinearKernel(37, 96, fmt), instruction, (1, 2, 13), linear_plan(instruction.features).dot_tile)


@pytest.mark.usefixtures("on_arm")
@every_instruction
def test_norm_and_epilogues(name: str) -> None:
    norm, tile = InputNorm("rms", 1e-5, 0.0, "float16"), TileShape(1, (2, 1))
    plain = LinearKernel(32, 64, INT4_F16, norm, bias="float16", residual=True)
    gated = LinearKernel(64, 64, INT8_F16, activation="silu")
    for kernel in (plain, gated):
        dot_kernels.check(kernel, INSTRUCTIONS[name][0], (1, 5), tile)


def test_an_emulated_cpu_has_no_more_than_its_target() -> None:
    """Otherwise a library that needs too much would go unnoticed: i8mm crashes a CPU without it."""
    kernel = DotLinear(LinearKernel(4, 32, INT4_F16), TileShape(1, (1,)), NEON_I8MM)
    module = tvm.IRModule({"main": kernel.build().with_attr("global_symbol", "main")})
    shapes = [((1, 1, 32), "float32"), *kernel.weight_tensors().values(), ((1, 1, 4), "float32")]
    remote = Remote(QEMU_CPUS["arm64"])
    made = remote.load(tvm.compile(module, target=target_named("arm64-i8mm").tvm_target))
    with pytest.raises(RuntimeError, match="died"):
        remote.kernel("main", made.name)(*(tvm.runtime.tensor(np.ones(shape, dtype)) for shape, dtype in shapes))
    assert remote.process.wait() == -signal.SIGILL


def library(remote: Remote, checkpoint: Path, target: TargetRecord, quantization: str) -> TinyLibrary:
    """Load a tiny model in the emulator."""
    model = compile_model(checkpoint, hurried(target), quantization)
    machine = Machine(remote, model.executable)
    packed = pack(machine, [tvm.runtime.tensor(array) for array in model.tensors])
    parameters = remote.value("array", *map(remote.send, packed))
    return TinyLibrary(model.spec, model.bounds, machine, parameters, remote.function)


@every_target
def test_the_golden_transcript_in_exact_mode(target: str, emulated: Callable[[str], Remote], tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path, scale=SCALE)
    made = library(emulated(target), checkpoint, target_named(target, "f32", "f32"), "q0f32")
    assert transcript(made) == golden_ids()


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A checkpoint, and its logits on this CPU in 4 bits without int8 instructions."""
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("tiny"))
    cpu = next(cpu for cpu in PLAIN if cpu.runs_here())
    return checkpoint, forced_logits(
        build_library(checkpoint, "q4f16_1", target=record(cpu, "int8", "f16")), golden_ids()
    )


@every_target
def test_products_of_bytes_are_those_of_this_cpu(
    target: str, emulated: Callable[[str], Remote], portable: tuple[Path, np.ndarray]
) -> None:
    checkpoint, expected = portable
    made = library(emulated(target), checkpoint, target_named(target, "int8", "f16"), "q4f16_1")
    logits = forced_logits(made, golden_ids())
    assert nmse(logits, expected) < 1e-5
    assert (logits.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize(("activations", "kv", "quantization"), [("int8", "f16", "q4f16_1"), ("f32", "f32", "q0f32")])
def test_a_token_has_the_same_bits_in_every_schedule(
    activations: str, kv: str, quantization: str, emulated: Callable[[str], Remote], tmp_path: Path
) -> None:
    checkpoint = save_checkpoint(tmp_path, 1, SCALE, MODELS["llama"])
    check_schedules(
        library(emulated("arm64"), checkpoint, target_named("arm64", activations, kv), quantization), schedules=10
    )
