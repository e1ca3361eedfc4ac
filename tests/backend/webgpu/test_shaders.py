"""The kernels of browser libraries: valid WGSL, sampling like numpy, and the golden transcript.

Without PyPI `wgpu` and a Vulkan adapter (Debian: `mesa-vulkan-drivers`) the kernels are only compiled.
"""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tvm

sys.path.insert(0, str(Path(__file__).parents[2] / "unit"))
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from adapter import Runner, Shader, device, emulated, owner_of, shaders
from test_golden import SCALE, golden_ids, transcript
from tiny_checkpoint import save_checkpoint
from tiny_models import (
    CompiledModel,
    TinyLibrary,
    build_library,
    compile_model,
    nmse,
    reference_logits,
    save_model,
)

from argosy.compiler.kernels.gpu.attention.cache import gpu_kernels
from argosy.compiler.kernels.gpu.linear import GpuLinear, GpuLinearPlan
from argosy.compiler.kernels.gpu.sampling.logits import bitmask, logit_bias, penalties
from argosy.compiler.kernels.gpu.sampling.softmax import softmax_chunks, softmax_partials, softmax_probabilities
from argosy.compiler.kernels.gpu.sampling.sort import sort_descending
from argosy.compiler.kernels.gpu.sampling.top_p import sample_top_p
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.linear import LinearKernel
from argosy.compiler.targets import target_named
from argosy.compiler.targets.webgpu.fixups import FIXUPS
from argosy.compiler.targets.webgpu.target import webgpu_traits
from argosy.model_defs.families import FAMILIES
from argosy.quant import formats
from argosy.quant.scheme import F16, F32, INT4_F16, INT4_F32, Format

TRAITS = webgpu_traits(f16=True)
# Devices whose kernels have other tiles: one with little of everything, one with more than browsers have.
SMALL = replace(TRAITS, threads=64, shared_bytes=16 << 10, grid=7)
LARGE = replace(TRAITS, threads=1024, shared_bytes=64 << 10)
SCHEMES = ("q0f32", "q4f32_1", "q0f16", "q4f16_1")
VOCABULARIES = (258, 5000, 49152, 262144)
SAMPLED = [*((TRAITS, vocab) for vocab in VOCABULARIES), (SMALL, 5000), (LARGE, 5000)]
ENTRY_POINT_FAMILIES = ("llama", "mistral", "gemma3_text")
# llama is the tiny checkpoint of every scheme; gemma3 is gemma3_text under other names.
OTHER_FAMILIES = [name for name in FAMILIES if name not in ("llama", "gemma3")]
needs_adapter = pytest.mark.skipif(device() is None, reason="no `wgpu` or no Vulkan adapter: kernels are not run")


@cache
def compiled(scheme: str, directory: Path) -> CompiledModel:
    """Compile the tiny model as a library for browsers, with host code for this machine."""
    return compile_model(
        save_checkpoint(directory, scale=SCALE), emulated(target_named("webgpu", scheme=scheme)), scheme
    )


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny")


def kernels(functions: dict[str, tvm.tirx.PrimFunc]) -> tvm.runtime.Module:
    """Compile `functions` with host code for this machine; their kernels run on the adapter."""
    target = emulated(target_named("webgpu", scheme="q4f16_1")).tvm_target
    named = {name: function.with_attr("global_symbol", name) for name, function in functions.items()}
    module = tvm.tirx.build(tvm.transform.Sequential(list(FIXUPS))(tvm.IRModule(named)), target=target)
    Runner(module)
    return module


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_kernel_is_valid_and_within_the_limits(scheme: str, checkpoint: Path) -> None:
    found = shaders(owner_of(compiled(scheme, checkpoint).executable))
    assert 20 < len(found) <= 32, "a browser compiles all of them before the first answer"
    assert sum(len(shader.source) for shader in found.values()) < 200_000
    for shader in found.values():
        check_limits(shader, halves=scheme.endswith(("f16", "f16_1")))


def check_limits(shader: Shader, halves: bool) -> None:
    """Check the limits that the JavaScript runtime requests, and, given a validator, that the WGSL is valid."""
    x, y, z = shader.workgroup
    assert x * y * z <= 256, shader.name
    assert len(shader.written) <= 10, f"{shader.name} binds more buffers than the runtime asks for"
    assert "blockIdx.z" not in shader.tags, shader.name
    assert "subgroup" not in shader.source and (halves or "f16" not in shader.source), shader.name
    if device() is not None and not (halves and "shader-f16" not in device().features):
        device().create_shader_module(code=shader.source)


@needs_adapter
def test_the_transcript_is_the_golden_one(checkpoint: Path) -> None:
    assert transcript(loaded(compiled("q0f32", checkpoint))) == golden_ids()


@needs_adapter
def test_the_transcript_of_a_smaller_device_is_the_golden_one(tmp_path: Path) -> None:
    small = replace(SMALL, grid=TRAITS.grid, f16=False)
    target = replace(
        target_named("webgpu", scheme="q0f32"), gpu=small,
        linear=GpuLinearPlan(small, "float32", frozenset({"f32"})), cache=gpu_kernels(small),
    )  # fmt: skip
    model = compile_model(save_checkpoint(tmp_path, scale=SCALE), emulated(target), "q0f32")
    assert transcript(loaded(model)) == golden_ids()


def loaded(model: CompiledModel) -> TinyLibrary:
    """Load the model with its kernels on the adapter."""
    Runner(owner_of(model.executable))
    machine = tvm.runtime.vm.VirtualMachine(model.executable, tvm.cpu())
    return TinyLibrary(model.spec, model.bounds, machine, [tvm.runtime.tensor(array) for array in model.tensors])


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_every_family_has_valid_kernels(family: str, tmp_path: Path) -> None:
    save_model(FAMILIES[family].tiny_config, tmp_path)
    model = compile_model(tmp_path, emulated(target_named("webgpu", scheme="q4f16_1")), "q4f16_1")
    for shader in shaders(owner_of(model.executable)).values():
        check_limits(shader, halves=True)


@needs_adapter
@pytest.mark.parametrize("family", [name for name in OTHER_FAMILIES if name not in ENTRY_POINT_FAMILIES])
def test_every_family_computes_what_transformers_does(family: str, tmp_path: Path) -> None:
    """A prompt in chunks, then single tokens."""
    reference = save_model(FAMILIES[family].tiny_config, tmp_path)
    model = compile_model(tmp_path, emulated(target_named("webgpu", scheme="q0f32")), "q0f32")
    for shader in shaders(owner_of(model.executable)).values():
        check_limits(shader, halves=False)
    library = loaded(model)
    ids = [int(i) for i in np.random.default_rng(7).integers(1, library.spec.vocab_size, 40)]
    expected = reference_logits(reference, ids)
    library.add(0)
    library.prefill(0, ids[: library.bounds.prefill_chunk // 2])
    for end in (37, 38, 39, 40):
        start = library.bounds.prefill_chunk // 2 if end == 37 else end - 1
        assert nmse(library.prefill(0, ids[start:end]), expected[end - 1]) < 1e-8, end


@needs_adapter
@pytest.mark.parametrize("family", ENTRY_POINT_FAMILIES)
def test_every_entry_point_computes_what_the_cpu_does(family: str, tmp_path: Path) -> None:
    """Chunks against the cache, several sequences at once, forks inside a page, and layers that slide."""
    save_model(FAMILIES[family].tiny_config, tmp_path)
    here = build_library(tmp_path)
    there = loaded(compile_model(tmp_path, emulated(target_named("webgpu", scheme="q0f32")), "q0f32"))
    ids = [int(i) for i in np.random.default_rng(5).integers(1, here.spec.vocab_size, 60)]
    chunk = here.bounds.prefill_chunk
    steps = [
        ("prefill", {0: ids[: min(chunk, 21)]}), ("prefill", {0: ids[21 : 21 + min(chunk, 14)]}),
        ("decode", {0: ids[:1]}),
        ("batch_prefill", {0: ids[:3], 1: ids[3 : 3 + min(chunk - 3, 20)]}), ("fork", {}),
        ("batch_decode", {0: ids[5:6], 1: ids[6:7], 2: ids[7:8]}), ("batch_verify", {1: ids[8:11], 2: ids[11:13]}),
        ("batch_decode", {2: ids[15:16], 0: ids[16:17]}),
    ]  # fmt: skip
    for library in (here, there):
        library.add(0)
        library.add(1)
    for entry, tokens in steps:
        if entry == "fork":
            for library in (here, there):
                library.function("vm.builtin.kv_state_fork_sequence")(library.cache, 0, 2, -1)
            continue
        assert nmse(there.forward(entry, tokens), here.forward(entry, tokens)) < 1e-8, entry


@needs_adapter
@pytest.mark.parametrize(("traits", "vocab"), SAMPLED)
def test_probabilities_and_their_order(traits: GpuTraits, vocab: int) -> None:
    module = kernels(
        {
            "partials": softmax_partials(traits, vocab),
            "softmax": softmax_probabilities(traits, vocab),
            "sort": sort_descending(traits, vocab),
        }
    )
    x = np.random.default_rng(0).standard_normal((2, 1, vocab), np.float32) * 3
    x[0, 0, [7, 9]] = x.max() + 1  # equals: the earlier one comes first
    temperature = np.array([0.7, 1e-6], np.float32)
    partials = empty((2, softmax_chunks(traits, vocab), 2))
    probs = empty(x.shape)
    module["partials"](*map(tvm.runtime.tensor, (x, temperature)), partials)
    module["softmax"](*map(tvm.runtime.tensor, (x, temperature)), partials, probs)
    shifted = np.exp((x - x.max(-1, keepdims=True)).astype(np.float64) / temperature[:, None, None])
    np.testing.assert_allclose(probs.numpy(), shifted / shifted.sum(-1, keepdims=True), atol=1e-6)
    values = probs.numpy()[:, 0]
    ordered, ids = empty(values.shape), empty(values.shape, "int32")
    module["sort"](tvm.runtime.tensor(values), ordered, ids)
    expected = np.argsort(-values, axis=1, kind="stable")
    np.testing.assert_array_equal(ids.numpy(), expected)
    np.testing.assert_array_equal(ordered.numpy(), np.take_along_axis(values, expected, 1))


@needs_adapter
@pytest.mark.parametrize(("traits", "vocab"), SAMPLED)
def test_samples_come_from_the_nucleus(traits: GpuTraits, vocab: int) -> None:
    module = kernels({"sample": sample_top_p(traits, vocab)})
    random = np.random.default_rng(1)
    probs = np.sort(random.dirichlet(np.full(vocab, 0.02), 2).astype(np.float32), axis=1)[:, ::-1].copy()
    ids = np.stack([random.permutation(vocab) for _ in range(2)]).astype(np.int32)
    uniform, rows = random.random(300, np.float32), (np.arange(300) % 2).astype(np.int32)
    top_p = np.array([0.9, 1e-5], np.float32)
    sampled = empty((300,), "int32")
    module["sample"](*map(tvm.runtime.tensor, (probs, ids, uniform, rows, top_p)), sampled)
    reached = np.cumsum(probs.astype(np.float64), axis=1)
    wrong = 0
    for row, u, got in zip(rows, uniform, sampled.numpy(), strict=True):
        kept = int(((reached[row] - probs[row]) < top_p[row]).sum())
        place = min(int(np.searchsorted(reached[row, :kept], u * reached[row, kept - 1], side="right")), kept - 1)
        wrong += got != ids[row, place]
    assert wrong <= 1  # a sum of 32-bit floats may end on the other side of a sample
    assert (sampled.numpy()[rows == 1] == ids[1, 0]).all()


@needs_adapter
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24, 1.0])  # 1: what a host's number below it may be as float32
def test_a_token_without_probability_is_never_sampled(uniform: float) -> None:
    vocab, allowed = 5000, 3000
    module = kernels({"sample": sample_top_p(TRAITS, vocab)})
    probs = np.zeros((40, vocab), np.float32)
    probs[:, :allowed] = np.random.default_rng(6).dirichlet(np.full(allowed, 0.1), 40)
    probs = np.sort(probs, axis=1)[:, ::-1].copy()
    places = np.broadcast_to(np.arange(vocab, dtype=np.int32), probs.shape).copy()
    rows, top_p = np.arange(40, dtype=np.int32), np.full(40, 1, np.float32)
    sampled = empty((40,), "int32")
    given = (probs, places, np.full(40, uniform, np.float32), rows, top_p)
    module["sample"](*map(tvm.runtime.tensor, given), sampled)
    assert (probs[rows, sampled.numpy()] > 0).all()


@needs_adapter
@pytest.mark.parametrize("traits", [TRAITS, SMALL], ids=["webgpu", "small"])
def test_logits_are_changed_in_place(traits: GpuTraits) -> None:
    vocab = 1000
    module = kernels(
        {"bias": logit_bias(traits, vocab), "penalties": penalties(traits, vocab), "mask": bitmask(traits, vocab)}
    )
    x = np.random.default_rng(2).standard_normal((2, vocab), np.float32)
    tokens, counts = np.array([3, 4, 7], np.int32), np.array([1, 2, 3], np.int32)

    changed = tvm.runtime.tensor(x)
    rows, bias = np.array([0, 1, 1], np.int32), np.array([5, -2, 1], np.float32)
    module["bias"](changed, *map(tvm.runtime.tensor, (rows, tokens, bias)))
    expected = x.copy()
    expected[rows, tokens] += bias
    np.testing.assert_allclose(changed.numpy(), expected, rtol=1e-6)

    changed = tvm.runtime.tensor(x)
    sequences, owners = np.array([1], np.int32), np.zeros(3, np.int32)
    values = np.array([[0.1, 0.2, 1.3]], np.float32)
    module["penalties"](changed, *map(tvm.runtime.tensor, (sequences, owners, tokens, counts, values)))
    expected = x.copy()
    lower = expected[1, tokens] - 0.1 - 0.2 * counts
    expected[1, tokens] = np.where(lower < 0, lower * 1.3, lower / 1.3)
    np.testing.assert_allclose(changed.numpy(), expected, rtol=1e-5)

    changed = tvm.runtime.tensor(x)
    words = np.random.default_rng(3).integers(0, 2**32, (1, -(-vocab // 32)), dtype=np.uint32)
    module["mask"](changed, *map(tvm.runtime.tensor, (sequences, words.view(np.int32))))
    allowed = np.unpackbits(words.view(np.uint8), bitorder="little")[:vocab].astype(bool)
    np.testing.assert_array_equal(changed.numpy()[0], x[0])
    np.testing.assert_array_equal(changed.numpy()[1][allowed], x[1][allowed])
    assert (changed.numpy()[1][~allowed] < -3e38).all()


@needs_adapter
@pytest.mark.parametrize("tokens", [0, 1, 4, 5, 50])
@pytest.mark.parametrize(
    ("fmt", "x", "out", "bias", "residual"),
    [
        (INT4_F32, "float32", "float32", None, False),
        (INT4_F16, "float16", "float16", None, True),
        (INT4_F16, "float16", "float32", "float16", False),
        (F16, "float16", "float16", "float16", True),
        (F32, "float32", "float32", "float32", True),
    ],
)
def test_linear_layers(fmt: Format, x: str, out: str, bias: str | None, residual: bool, tokens: int) -> None:
    if "float16" in (x, out, fmt.dtype) and "shader-f16" not in device().features:
        pytest.skip("the adapter has no 16-bit floats")
    check_linear(TRAITS, LinearKernel(1, 1, fmt, x=x, out=out, bias=bias, residual=residual), tokens)


@needs_adapter
@pytest.mark.parametrize("tokens", [4, 50])
@pytest.mark.parametrize("fmt", [INT4_F32, F32], ids=["int4", "f32"])
@pytest.mark.parametrize("traits", [SMALL, LARGE], ids=["small", "large"])
def test_linear_layers_of_other_devices(traits: GpuTraits, fmt: Format, tokens: int) -> None:
    check_linear(traits, LinearKernel(1, 1, fmt, bias="float32"), tokens)


def check_linear(traits: GpuTraits, kernel: LinearKernel, tokens: int) -> None:
    """Compare the kernel with numpy for matrices of several sizes."""
    fmt, x, out, bias, residual = kernel.fmt, kernel.x, kernel.out, kernel.bias, kernel.residual
    module = kernels({"linear": GpuLinear(traits, kernel).build()})
    random = np.random.default_rng(4)
    odd = () if fmt.bits else ((3, 1), (65, 33))
    for n, k in ((96, 64), (130, 96), (66, 576), (1, 40), *odd):
        weights = formats.pack(fmt, random.standard_normal((n, k), np.float32))
        given = random.standard_normal((1, tokens, k), np.float32).astype(x)
        added = random.standard_normal(n, np.float32)
        rest = random.standard_normal((1, tokens, n), np.float32).astype(out)
        operands = [given, *weights.values(), *([added.astype(bias)] if bias else []), *([rest] if residual else [])]
        result = empty((1, tokens, n), out)
        module["linear"](*map(tvm.runtime.tensor, operands), result)
        expected = given.astype(np.float32) @ formats.unpack(fmt, weights, k).T
        expected = expected + (added.astype(bias) if bias else 0) + (rest if residual else 0)
        error = nmse(result.numpy().astype(np.float32), expected) if tokens else 0.0
        assert error < (1e-11 if out == x == "float32" else 1e-6)


def empty(shape: tuple[int, ...], dtype: str = "float32") -> tvm.runtime.Tensor:
    """Make a tensor of zeros."""
    return tvm.runtime.tensor(np.zeros(shape, dtype))
