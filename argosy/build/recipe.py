"""Check a build request and settle everything that it leaves open, before the first byte is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.build.request import ROUNDINGS, BuildRequest
from argosy.build.variant import chosen_options
from argosy.compiler.targets import TARGETS, check_options, check_scheme, check_targets, check_tensors, with_companions
from argosy.dist.naming import artefact_name, output_root
from argosy.support.bounded_file import path_line
from argosy.support.errors import UsageError
from argosy.support.tokenizer_probe import probe_tokenizer
from argosy.support.user_files import absolute

if TYPE_CHECKING:
    from argosy.compiler.bounds import Bounds
    from argosy.model_defs.checkpoint import Checkpoint
    from argosy.model_defs.networks.decoder_spec import DecoderSpec
    from argosy.model_defs.parameters import Parameter
    from argosy.quant.plan import StoragePlan
    from argosy.quant.scheme import Scheme


@dataclass(frozen=True, slots=True)
class BuildRecipe:
    """A build request with every choice made and every input opened.

    `tokenizer_files` are the checkpoint's, `preset` the settings of answers for a model that recommends none.
    `options` are those that the request sets and that only some targets take, `variant` all that are not the defaults.
    `ignorable` are names of tensors that the checkpoint holds and the model does not use; `digest` is the checkpoint's.
    """

    name: str
    checkpoint: Checkpoint
    config: dict[str, object]
    tokenizer_files: Mapping[str, bytes]
    preset: Mapping[str, object]
    spec: DecoderSpec
    parameters: tuple[Parameter, ...]
    plan: StoragePlan
    scheme: Scheme
    rounding: str
    targets: tuple[str, ...]
    options: Mapping[str, str]
    variant: dict[str, str]
    bounds: Bounds
    directory: Path
    ignorable: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]


def prepare(request: BuildRequest, whole: bool = True) -> BuildRecipe:
    """Resolve, open and check everything; write nothing.

    By default a `whole` build with options has a directory of its own. Single stages have one that they share.
    Raises ArgosyError for whatever cannot be built.
    """
    from argosy.compiler.bounds import bounds_for
    from argosy.dist.catalogue import CATALOGUE, resolve_model
    from argosy.dist.chat_config import model_settings
    from argosy.model_defs.checkpoint import open_checkpoint
    from argosy.model_defs.read import read_model, read_spec
    from argosy.quant.convert import check_sources, expected_tensors
    from argosy.quant.plan import choose_formats
    from argosy.quant.scheme import scheme_named

    scheme = scheme_named(request.quantization)
    if request.rounding not in ROUNDINGS:
        raise UsageError(f"unknown rounding `{request.rounding}`", f"one of: {', '.join(ROUNDINGS)}")
    targets, options = check_targets(request.targets), request.target_options()
    check_options(targets, options)
    check_scheme(targets, scheme.name)
    targets = with_companions(targets, scheme.name)
    resolved = resolve_model(request.model)
    name = str(absolute(resolved.path)) if resolved.kind == "path" else resolved.name  # found again from anywhere
    checkpoint = open_checkpoint(resolved.path)
    longest = read_spec(checkpoint.config)
    bounds = bounds_for(longest, request.context_window, request.prefill_chunk, request.max_batch)
    variant = chosen_options(request, bounds, longest, scheme.name, [TARGETS[target] for target in targets])
    model = read_model(checkpoint, bounds.context_window)  # some rope scalings depend on the window
    check_sources(model.parameters, checkpoint, model.ignorable)
    plan = choose_formats(model.parameters, scheme, checkpoint)
    sizes = {name: tensor_bytes(shape, dtype) for name, shape, dtype in expected_tensors(model.parameters, plan)}
    files = checkpoint.tokenizer_files()
    probe_tokenizer(files["tokenizer.json"], f"the tokenizer of `{path_line(resolved.path)}`")
    preset = CATALOGUE[resolved.name].preset if resolved.kind == "catalogue" else {}
    _, unused = model_settings(files, checkpoint.config, preset, model.spec.vocab_size, bounds.context_window)
    notes = (*model.notices, *plan.notes, *unused, *check_tensors(targets, sizes))
    return BuildRecipe(
        name=name, checkpoint=checkpoint, config=checkpoint.config, tokenizer_files=files, preset=preset,
        spec=model.spec, parameters=model.parameters, plan=plan, scheme=scheme, rounding=request.rounding,
        targets=targets, options=options, variant=variant, bounds=bounds,
        directory=request.output or output_root() / artefact_name(name, scheme.name, variant if whole else None),
        ignorable=model.ignorable, digest=checkpoint.digest(), notes=notes,
    )  # fmt: skip


def tensor_bytes(shape: Sequence[int], dtype: str) -> int:
    """Return the size of a tensor."""
    import numpy as np

    return math.prod(shape) * np.dtype(dtype).itemsize
