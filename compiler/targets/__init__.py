"""The targets by name: a word from the command line goes in, a `TargetRecord` comes out."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING

from argosy.support.errors import TargetError

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord

# name -> one line for `argosy list targets`
TARGETS: dict[str, str] = {"cpu": "this machine's processor"}


def _cpu(activations: str, kv: str) -> TargetRecord:
    from argosy.compiler.targets.cpu.target import cpu_target

    return cpu_target(activations, kv)


_MAKERS: dict[str, Callable[[str, str], TargetRecord]] = {"cpu": _cpu}


def target_named(name: str, activations: str = "int8", kv: str = "f16") -> TargetRecord:
    """The record of the target called `name`.

    `activations`: what quantized matrices are multiplied with, rounded to `int8` in groups, or exact in `f32`.
    `kv`: what keys and values are kept in, `f16` or `f32`.

    Raises TargetError for an unknown name.
    """
    if name not in TARGETS:
        near = difflib.get_close_matches(name, TARGETS, n=1)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise TargetError(f"unknown target `{name}`", f"{hint}one of: {', '.join(TARGETS)}")
    return _MAKERS[name](activations, kv)
