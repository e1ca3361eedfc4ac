"""Building: a model's name, targets and a scheme go in, a finished artefact directory comes out.

    prepare -> weights -> config -> library, once for each target

`prepare` reads headers only and finds every mistake that can be found before work starts. The stages write files;
one whose inputs are unchanged is skipped. The directory's manifest records each stage when its files are complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from argosy.dist.build_directory import BuildDirectory, open_build_directory
from argosy.dist.cpu_features import host_features
from argosy.dist.fingerprint import config_key, library_key, weights_key
from argosy.dist.manifest import ABI, Manifest, TargetRecord, argosy_version
from argosy.dist.naming import artefact_name, output_root
from argosy.support.errors import UsageError
from argosy.support.files import require_space
from argosy.support.layout import weights_layout

if TYPE_CHECKING:
    from argosy.compiler.bounds import Bounds
    from argosy.model_defs.checkpoint import Checkpoint
    from argosy.model_defs.parameters import Parameter
    from argosy.model_defs.spec import DecoderSpec
    from argosy.quant.plan import Plan
    from argosy.quant.scheme import Scheme
    from argosy.support.progress import Progress

Stage = Literal["weights", "config", "library"]
STAGES: tuple[Stage, ...] = ("weights", "config", "library")
ROUNDINGS = ("full", "rtn")
ACTIVATIONS = ("int8", "int16", "f32")
KV_DTYPES = ("f16", "f32")


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks for. None leaves the choice to the model; `force` runs stages that are up to date as well."""

    model: str
    targets: tuple[str, ...] = ("cpu",)
    quantization: str = "q4f16_1"
    rounding: str = "full"
    context_window: int | None = None
    prefill_chunk: int | None = None
    max_batch: int | None = None
    activations: str | None = None  # None: what the scheme recommends
    kv: str = "f16"
    output: Path | None = None
    force: bool = False
    debug_dump: Path | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that is settled before the first byte is written."""

    name: str
    checkpoint: Checkpoint
    config: dict[str, object]
    spec: DecoderSpec
    parameters: tuple[Parameter, ...]
    plan: Plan
    scheme: Scheme
    rounding: str
    targets: tuple[str, ...]
    activations: str
    kv: str
    bounds: Bounds
    directory: Path
    ignorable: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StageReport:
    """What became of a stage (`target` says of which library): how long it took, how many bytes its files have.

    `phases` are the seconds of its parts, for a library that was compiled.
    """

    stage: str
    seconds: float
    skipped: bool
    nbytes: int
    files: tuple[str, ...]
    target: str | None = None
    phases: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did. `complete`: the directory now has weights, config and a library for each target."""

    directory: Path
    model: str
    scheme: str
    targets: tuple[str, ...]
    stages: tuple[StageReport, ...]
    seconds: float
    complete: bool
    notes: tuple[str, ...]


def prepare(request: Request) -> Recipe:
    """Resolve, open and check everything; nothing is written.

    Raises ArgosyError for whatever cannot be built.
    """
    from argosy.compiler.bounds import bounds_for
    from argosy.compiler.targets import check_scheme, check_targets, check_tensors
    from argosy.dist.catalogue import resolve_model
    from argosy.model_defs.checkpoint import open_checkpoint
    from argosy.model_defs.registry import ignorable, notice, parameters_of, spec_from_config
    from argosy.quant.convert import check_sources, expected_tensors
    from argosy.quant.plan import choose_formats
    from argosy.quant.scheme import scheme_named

    scheme = scheme_named(request.quantization)
    if request.rounding not in ROUNDINGS:
        raise UsageError(f"unknown rounding `{request.rounding}`", f"one of: {', '.join(ROUNDINGS)}")
    activations = request.activations or scheme.activations
    if activations not in ACTIVATIONS:
        raise UsageError(f"unknown activations `{activations}`", f"one of: {', '.join(ACTIVATIONS)}")
    if request.kv not in KV_DTYPES:
        raise UsageError(f"unknown dtype `{request.kv}` of the KV cache", f"one of: {', '.join(KV_DTYPES)}")
    targets = check_targets(request.targets)
    check_scheme(targets, scheme.name)
    resolved = resolve_model(request.model)
    checkpoint = open_checkpoint(resolved.path)
    longest = spec_from_config(checkpoint.config)
    bounds = bounds_for(longest, request.context_window, request.prefill_chunk, request.max_batch)
    spec = spec_from_config(checkpoint.config, bounds.context_window)  # some rope scalings depend on the window
    parameters = parameters_of(spec, checkpoint.config, checkpoint.names())
    left_out = ignorable(checkpoint.config)
    check_sources(parameters, checkpoint, left_out)
    plan = choose_formats(parameters, scheme, checkpoint)
    said = notice(checkpoint.config)
    sizes = {name: _tensor_bytes(shape, dtype) for name, shape, dtype in expected_tensors(parameters, plan)}
    notes = (*((said,) if said else ()), *plan.notes, *check_tensors(targets, sizes))
    return Recipe(
        name=resolved.name, checkpoint=checkpoint, config=checkpoint.config, spec=spec, parameters=parameters,
        plan=plan,
        scheme=scheme, rounding=request.rounding, targets=targets,
        activations=activations, kv=request.kv, bounds=bounds,
        directory=request.output or output_root() / artefact_name(resolved.name, scheme.name),
        ignorable=left_out, digest=checkpoint.digest(), notes=notes,
    )  # fmt: skip


def build(request: Request, progress: Progress, stages: Sequence[Stage] = STAGES) -> BuildReport:
    """Run those of `stages` that are not up to date, into the directory that `request` asks for.

    Raises ArgosyError; stages that were finished before stay, and the next build goes on from there.
    """
    started = time.perf_counter()
    recipe = prepare(request)
    reports = []
    with open_build_directory(
        recipe.directory, model=recipe.name, quantization=recipe.scheme.name, checkpoint_digest=recipe.digest
    ) as directory:
        for step in _steps(stages, recipe.targets):
            reports.append(_run(step, recipe, directory, request, progress))
        manifest = directory.manifest
    complete = None not in (manifest.weights, manifest.config, *map(manifest.libraries.get, recipe.targets))
    return BuildReport(
        recipe.directory, recipe.name, recipe.scheme.name, recipe.targets, tuple(reports),
        time.perf_counter() - started, complete, recipe.notes,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """How a stage is keyed, recognised as up to date, run, and which files it has; `target` for a library.

    `run` returns the seconds of its parts, where it has some.
    """

    stage: Stage
    key: Callable[[Recipe], str]
    is_current: Callable[[Recipe, BuildDirectory, str], bool]
    run: Callable[[Recipe, BuildDirectory, str, Request, Progress], Mapping[str, float] | None]
    files: Callable[[Recipe, Manifest], tuple[str, ...]]
    target: str | None = None


def _run(step: Step, recipe: Recipe, directory: BuildDirectory, request: Request, progress: Progress) -> StageReport:
    """One stage, unless it is up to date."""
    started = time.perf_counter()
    key = step.key(recipe)
    must = request.force or (step.stage == "library" and request.debug_dump is not None)
    skipped = not must and step.is_current(recipe, directory, key)
    phases = None if skipped else step.run(recipe, directory, key, request, progress)
    files = step.files(recipe, directory.manifest)
    nbytes = sum(directory.manifest.files[name].bytes for name in files)
    seconds = time.perf_counter() - started
    return StageReport(step.stage, seconds, skipped, nbytes, files, step.target, phases or {})


def _weights_key(recipe: Recipe) -> str:
    return weights_key(
        checkpoint_digest=recipe.digest,
        scheme=recipe.scheme.name,
        rounding=recipe.rounding,
        spec_digest=hashlib.sha256(repr(recipe.parameters).encode()).hexdigest(),  # of the spec only what weights show
    )


def _write_weights(recipe: Recipe, directory: BuildDirectory, key: str, request: Request, progress: Progress) -> None:
    """Convert the checkpoint's tensors into `tensor-cache.json` and its shards."""
    from argosy.quant.convert import convert, expected_tensors

    tensors = expected_tensors(recipe.parameters, recipe.plan)
    require_space(directory.directory, sum(_tensor_bytes(shape, dtype) for _, shape, dtype in tensors))
    with directory.weights_writer() as writer:
        convert(
            recipe.parameters, recipe.plan, recipe.checkpoint, recipe.rounding, writer.add, progress,
            ignorable=recipe.ignorable,
        )  # fmt: skip
        directory.publish_weights(writer, key=key, rounding=recipe.rounding)


def _tensor_bytes(shape: Sequence[int], dtype: str) -> int:
    import numpy as np

    return math.prod(shape) * np.dtype(dtype).itemsize


def _config_key(recipe: Recipe) -> str:
    return config_key(
        checkpoint_digest=recipe.digest, scheme=recipe.scheme.name, bounds=dataclasses.asdict(recipe.bounds)
    )


def _write_config(recipe: Recipe, directory: BuildDirectory, key: str, request: Request, progress: Progress) -> None:
    """Write the tokenizer files and `mlc-chat-config.json`."""
    from argosy.dist.chat_config import make_chat_config
    from argosy.mlc_template import conv_template

    progress.report("writing config", 0, 1)
    files = recipe.checkpoint.tokenizer_files()
    config = make_chat_config(
        model_type=recipe.spec.model_type, quantization=recipe.scheme.name, model_config=recipe.config,
        vocab_size=recipe.spec.vocab_size, context_window_size=recipe.bounds.context_window,
        prefill_chunk_size=recipe.bounds.prefill_chunk, max_batch_size=recipe.bounds.max_batch,
        tokenizer_files=files,
    )  # fmt: skip
    template = conv_template(recipe.spec.model_type, files, config.eos_token_ids)
    directory.publish_config(dataclasses.replace(config, conv_template=template), files, key=key)
    progress.report("writing config", 1, 1)


def _library_key(target: str, recipe: Recipe) -> str:
    formats = {name: fmt.name for name, fmt in recipe.plan.formats.items()} | {"": recipe.plan.plain.name}
    return library_key(
        spec_digest=recipe.spec.digest(), formats=formats, bounds=dataclasses.asdict(recipe.bounds),
        target={"name": target, "activations": recipe.activations, "kv": recipe.kv, "machine": _machine(target)},
    )  # fmt: skip


def _machine(target: str) -> list[str]:
    """What a target derives its instructions from, read without LLVM so that a build with nothing to do is quick."""
    from argosy.compiler.targets.cpu.processors import PROCESSORS

    if target == "webgpu":
        return []
    if target in PROCESSORS:  # its row is among the sources of the compiler
        return [platform.system(), platform.machine()]
    model = ""
    with contextlib.suppress(OSError):
        rows = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((row.partition(":")[2].strip() for row in rows if row.startswith("model name")), "")
    return [platform.platform(), platform.processor(), model, *sorted(host_features() or ())]


def _write_library(
    name: str, recipe: Recipe, directory: BuildDirectory, key: str, request: Request, progress: Progress
) -> Mapping[str, float]:
    """Compile and link the library for the target called `name`."""
    progress.report("load the compiler", 0, 1)
    from argosy.compiler.build import compile_library
    from argosy.compiler.targets import prepare_linking, target_named
    from argosy.quant.convert import expected_tensors

    started = time.perf_counter()
    for each in recipe.targets:  # a machine without a linker should say so before it compiles, not after
        prepare_linking(each, progress)
    preparing = time.perf_counter() - started
    target = target_named(name, recipe.activations, recipe.kv, recipe.scheme.name)
    dump = request.debug_dump
    if dump is not None and len(recipe.targets) > 1:
        dump = dump / name
    progress.report("load the compiler", 1, 1)
    path = directory.library_path(name, target.library_suffix)
    library = compile_library(
        recipe.spec, recipe.plan.formats, recipe.plan.plain, target, recipe.bounds, path,
        quantization=recipe.scheme.name, argosy_version=argosy_version(), abi=ABI, progress=progress,
        debug_dump=dump,
    )  # fmt: skip
    layout = weights_layout(expected_tensors(recipe.parameters, recipe.plan))
    assert library.metadata["weights_layout"] == layout, "compiler and converter disagree on the tensors"
    made_for = TargetRecord(target.name, target.triple, target.cpu, target.features, target.device)
    directory.publish_library(
        path, made_for, key=key, weights_layout=layout, spec_digest=recipe.spec.digest()
    )  # fmt: skip
    return {"prepare linking": preparing, **library.seconds}


def _library_files(target: str, recipe: Recipe, manifest: Manifest) -> tuple[str, ...]:
    library = manifest.libraries.get(target)
    return (library.file,) if library else ()


_WEIGHTS = Step(
    "weights", _weights_key, lambda recipe, directory, key: directory.has_weights(key), _write_weights,
    lambda recipe, manifest: manifest.weights.files if manifest.weights else (),
)  # fmt: skip
_CONFIG = Step(
    "config", _config_key, lambda recipe, directory, key: directory.has_config(key), _write_config,
    lambda recipe, manifest: manifest.config.files if manifest.config else (),
)  # fmt: skip


def _library_step(target: str) -> Step:
    return Step(
        "library", functools.partial(_library_key, target),
        lambda recipe, directory, key: directory.has_library(target, key),
        functools.partial(_write_library, target), functools.partial(_library_files, target), target,
    )  # fmt: skip


def _steps(stages: Sequence[Stage], targets: Sequence[str]) -> Iterator[Step]:
    """What `stages` come to, in the order of `STAGES`."""
    if "weights" in stages:
        yield _WEIGHTS
    if "config" in stages:
        yield _CONFIG
    if "library" in stages:
        yield from map(_library_step, targets)
