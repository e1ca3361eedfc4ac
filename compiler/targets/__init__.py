"""The targets by name: a word from the command line goes in, a `TargetRecord` comes out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from argosy.compiler.targets.cpu.processors import PROCESSORS
from argosy.support.errors import TargetError, UsageError
from argosy.support.text import did_you_mean

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord

# name -> one line for `argosy list targets`
TARGETS: dict[str, str] = {
    "cpu": "this machine's processor, with every instruction that it has",
    **{name: processor.summary for name, processor in PROCESSORS.items()},
}


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


def target_named(name: str, activations: str = "int8", kv: str = "f16") -> TargetRecord:
    """The record of the target called `name`.

    `activations`: what quantized matrices are multiplied with, rounded to `int8` or, finely, `int16` in groups,
    or exact in `f32`.
    `kv`: what keys and values are kept in, `f16` or `f32`.

    Raises TargetError for an unknown name.
    """
    check_targets([name])
    from argosy.compiler.targets.cpu.target import cpu_target, processor_target

    if name in PROCESSORS:
        return processor_target(PROCESSORS[name], activations, kv)
    return cpu_target(activations, kv)
