"""The targets by name: a word from the command line goes in, a `TargetRecord` comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from argosy.compiler.targets.cpu.processors import PROCESSORS
from argosy.compiler.targets.webgpu import schemes as webgpu
from argosy.support.errors import TargetError, UsageError
from argosy.support.text import did_you_mean, human_size

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord
    from argosy.support.progress import Progress

# name -> one line for `argosy list targets`
TARGETS: dict[str, str] = {
    "cpu": "this machine's processor, with every instruction that it has",
    **{name: processor.summary for name, processor in PROCESSORS.items()},
    "webgpu": webgpu.SUMMARY,
}
# name -> the schemes that it can compute, where those are not all
_SCHEMES = {"webgpu": tuple(webgpu.DTYPES)}
# name -> bytes of one tensor that a kernel can read: on every device of that kind, and on any
_BINDINGS = {"webgpu": (webgpu.PROMISED_BINDING, webgpu.LARGEST_BINDING)}


def check_targets(names: Sequence[str]) -> tuple[str, ...]:
    """`names` without repetitions.

    Raises TargetError for an unknown one, UsageError where there is none.
    """
    if not names:
        raise UsageError("no target was named", f"one or more of: {', '.join(TARGETS)}")
    for name in names:
        if name not in TARGETS:
            raise TargetError(f"unknown target `{name}`", did_you_mean(name, TARGETS))
    return tuple(dict.fromkeys(names))


def check_scheme(names: Sequence[str], scheme: str) -> None:
    """Raises TargetError if one of the targets `names` has no kernels for models stored by `scheme`."""
    for name in names:
        if scheme not in _SCHEMES.get(name, (scheme,)):
            raise TargetError(
                f"the target `{name}` has no kernels for the scheme `{scheme}`", f"one of: {', '.join(_SCHEMES[name])}"
            )


def check_tensors(names: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    """What to say of tensors (name -> bytes) that some devices of the targets `names` cannot read in one piece.

    Raises TargetError if no device of a target can.
    """
    notes = []
    tensor = max(sizes, key=sizes.__getitem__)
    has = f"the tensor `{tensor}` has {human_size(sizes[tensor])}"
    for name in names:
        if name not in _BINDINGS:
            continue
        promised, largest = _BINDINGS[name]
        if sizes[tensor] > largest:
            raise TargetError(
                f"{has}, and kernels of the target `{name}` can read at most {human_size(largest)} of one",
                "a 4-bit scheme makes it smaller: --quantization q4f16_1 or q4f32_1",
            )
        if sizes[tensor] > promised:
            notes.append(f"{has}; some devices of the target `{name}` can read only {human_size(promised)} of one")
    return notes


def prepare_linking(name: str, progress: Progress) -> None:
    """Makes sure that a library for the target called `name` can be linked, before it is compiled.

    Raises TargetError where what that takes is missing, saying how to get it.
    """
    if name == "webgpu":
        from argosy.compiler.targets.webgpu.package import prepare

        prepare(progress)
    else:
        from argosy.compiler.targets.cpu.link import find_linker
        from argosy.compiler.targets.cpu.processors import architecture_of

        find_linker(architecture_of(name))


def target_named(name: str, activations: str = "int8", kv: str = "f16", scheme: str = "q4f32_1") -> TargetRecord:
    """The record of the target called `name`.

    `activations`: what quantized matrices are multiplied with, rounded to `int8` or, finely, `int16` in groups,
    or exact in `f32`.
    `kv`: what keys and values are kept in, `f16` or `f32`.
    `scheme`: how the model is stored. It decides what a GPU computes and caches in; the other two are for CPUs.

    Raises TargetError for an unknown name, and for a scheme that the target cannot compute.
    """
    check_targets([name])
    check_scheme([name], scheme)
    if name == "webgpu":
        from argosy.compiler.targets.webgpu.target import webgpu_target

        return webgpu_target(scheme)
    from argosy.compiler.targets.cpu.target import cpu_target, processor_target

    if name in PROCESSORS:
        return processor_target(PROCESSORS[name], activations, kv)
    return cpu_target(activations, kv)
