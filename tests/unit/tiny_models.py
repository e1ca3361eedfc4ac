"""Make tiny random models: a checkpoint, its transformers reference and our library.

The library is made the way a user's is: checkpoint, parameters, conversion, lowering, pipeline, virtual machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import transformers
import tvm
from compile_once import compile_once
from tvm.runtime import ShapeTuple

from argosy.compiler.bounds import Bounds
from argosy.compiler.kernels.kv.shape import PAGE_SIZE
from argosy.compiler.lower import lower
from argosy.compiler.pipeline import pipeline, run
from argosy.compiler.targets import target_named
from argosy.compiler.targets.record import TargetRecord
from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.read import read_model
from argosy.quant.convert import convert, expected_tensors
from argosy.quant.plan import choose_formats
from argosy.quant.scheme import scheme_named
from argosy.runtime_bindings.engine.packing import pack
from argosy.support.progress import SilentProgress

CAPACITY = 512  # tokens in the cache
CHUNK = 48
MAX_BATCH = 4


def save_model(config: Mapping[str, object], directory: Path, seed: int = 0) -> torch.nn.Module:
    """Make a transformers model with random weights, and save it in `directory` as safetensors.

    Weights are such that every part matters: activations keep their size from layer to layer, and norms and biases are
    far from 1 and 0. `config` is written as given, so that old spellings are tested too.
    """
    fields = dict(config)
    model_type = fields.pop("model_type")
    reference_config = transformers.AutoConfig.for_model(model_type, **json.loads(json.dumps(fields)))
    reference_config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(reference_config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            is_table = any(word in name for word in ("embed", "wte", "wpe"))
            parameter.data = noise if is_table else noise * (1.2 / parameter.shape[-1] ** 0.5)
        else:
            parameter.data = 0.3 * noise + (1.0 if name.endswith("weight") and "gemma" not in model_type else 0.0)
    model.tie_weights()
    model.save_pretrained(directory)
    (directory / "config.json").write_text(json.dumps(dict(config)))
    return model


def reference_logits(model: torch.nn.Module, ids: Sequence[int]) -> np.ndarray:
    """Compute the logits after each of `ids`, (n, vocab), without a cache."""
    with torch.no_grad():
        return model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].float().numpy()


def nmse(value: np.ndarray, reference: np.ndarray) -> float:
    """Compute the normalised mean square error."""
    assert value.shape == reference.shape, (value.shape, reference.shape)
    return float(np.sum((value - reference) ** 2, dtype=np.float64) / np.sum(reference**2, dtype=np.float64))


@dataclass
class TinyLibrary:
    """A library in memory, with its parameters and a KV cache."""

    spec: DecoderSpec
    bounds: Bounds
    machine: tvm.runtime.vm.VirtualMachine
    parameters: list[tvm.runtime.Tensor]
    function: Callable[[str], Callable[..., object]] = tvm.get_global_func

    @cached_property
    def cache(self) -> object:
        """The KV cache."""
        sizes = (MAX_BATCH, CAPACITY, self.bounds.prefill_chunk, PAGE_SIZE, 0)
        return self.machine["create_paged_kv_cache"](*(ShapeTuple([size]) for size in sizes))

    def add(self, sequence: int) -> None:
        """Add an empty sequence."""
        self.function("vm.builtin.kv_state_add_sequence")(self.cache, sequence)

    def remove(self, sequence: int) -> None:
        """Forget a sequence."""
        self.function("vm.builtin.kv_state_remove_sequence")(self.cache, sequence)

    def forward(self, entry: str, chunks: Mapping[int, Sequence[int]]) -> np.ndarray:
        """Append tokens to sequences through the entry point `entry`; return its logits."""
        ids = np.concatenate([np.asarray(tokens, "int32") for tokens in chunks.values()])
        lengths = [len(tokens) for tokens in chunks.values()]
        x = self.machine["embed"](tvm.runtime.tensor(ids), self.parameters).numpy()
        x = x[:, None] if entry == "batch_decode" else x[None]
        extra = []
        if entry == "batch_prefill":
            extra.append(tvm.runtime.tensor(np.cumsum(lengths, dtype="int32") - 1))
        self.function("vm.builtin.kv_state_begin_forward")(self.cache, ShapeTuple(list(chunks)), ShapeTuple(lengths))
        logits, _ = self.machine[entry](tvm.runtime.tensor(x), *extra, self.cache, self.parameters)
        self.function("vm.builtin.kv_state_end_forward")(self.cache)
        return logits.numpy()

    def prefill(self, sequence: int, ids: Sequence[int]) -> np.ndarray:
        """Prefill `ids` chunk by chunk; return the logits (vocab,) after the last one."""
        step = self.bounds.prefill_chunk
        for start in range(0, len(ids), step):
            logits = self.forward("prefill", {sequence: ids[start : start + step]})
        return logits[0, 0]


def quick_target(activations: str = "f32", kv: str = "f32") -> TargetRecord:
    """Return the record of this machine's CPU, but with less optimization: the same kernels, in half the time."""
    return hurried(target_named("cpu", activations, kv))


def hurried(target: TargetRecord) -> TargetRecord:
    """Change `target` to a lower optimization level of LLVM."""
    return replace(target, tvm_target=tvm.target.Target({**target.tvm_target.export(), "opt-level": 1}))


@dataclass(frozen=True)
class CompiledModel:
    """A compiled model: its executable, and its stored tensors in the order of the library."""

    spec: DecoderSpec
    bounds: Bounds
    executable: tvm.runtime.Executable
    tensors: list[np.ndarray]


def compile_model(
    directory: Path, target: TargetRecord, quantization: str, rounding: str = "full", context_window: int | None = None
) -> CompiledModel:
    """Convert and compile the checkpoint in `directory` for `target`, in memory."""
    checkpoint = open_checkpoint(directory)
    model = read_model(checkpoint, context_window)
    spec, parameters = model.spec, model.parameters
    plan = choose_formats(parameters, scheme_named(quantization), checkpoint)
    arrays: dict[str, np.ndarray] = {}
    convert(parameters, plan, checkpoint, rounding, arrays.__setitem__, SilentProgress(), ignorable=model.ignorable)
    bounds = Bounds(spec.context_window, min(CHUNK, spec.window or CHUNK, spec.context_window), MAX_BATCH)
    mod, packed = lower(spec, plan.formats, plan.plain, target, bounds)
    assert packed == expected_tensors(parameters, plan), "graph and conversion disagree about the parameters"

    def executable_of(mod: tvm.IRModule) -> tvm.runtime.Executable:
        for phase in pipeline(target):
            mod = run(mod, phase, target)
        return tvm.compile(mod, target=target.tvm_target, relax_pipeline=tvm.transform.Sequential([]))

    formats = tuple((name, fmt.name) for name, fmt in plan.formats.items())
    recipe = (spec.digest(), formats, plan.plain.name, bounds)
    executable = compile_once(recipe, target, lambda: executable_of(mod))
    return CompiledModel(spec, bounds, executable, [arrays[name] for name, _, _ in packed])


def build_library(
    directory: Path,
    quantization: str = "q0f32",
    rounding: str = "full",
    context_window: int | None = None,
    activations: str = "f32",
    kv: str = "f32",
    target: TargetRecord | None = None,
) -> TinyLibrary:
    """Convert, compile and load the checkpoint in `directory`, for this CPU or for a `target` that runs here."""
    target = target or quick_target(activations, kv)
    model = compile_model(directory, target, quantization, rounding, context_window)
    machine = tvm.runtime.vm.VirtualMachine(model.executable, tvm.cpu())
    stored = [tvm.runtime.tensor(array) for array in model.tensors]
    return TinyLibrary(model.spec, model.bounds, machine, pack(machine, stored))
