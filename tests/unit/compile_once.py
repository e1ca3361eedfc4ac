"""Compile each recipe once in a run of the tests."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

import tvm

from argosy.compiler.targets.record import TargetRecord

KEPT = 64  # executables; a tiny one holds a few megabytes

_lock = Lock()
# The targets are kept with the executables: a recipe names functions by their addresses, which must not be reused.
_compiled: OrderedDict[Hashable, tuple[tvm.runtime.Executable, TargetRecord]] = OrderedDict()


def compile_once(
    recipe: Hashable, target: TargetRecord, compile_it: Callable[[], tvm.runtime.Executable]
) -> tvm.runtime.Executable:
    """Return the executable of `recipe` for `target`, compiled by `compile_it` on first use.

    `recipe` identifies everything but the target. Executables for GPUs are not shared: tests take their kernels out.
    """
    if target.device != "cpu":
        return compile_it()
    key = (recipe, _identity(target))
    with _lock:
        if key not in _compiled:
            _compiled[key] = compile_it(), target
            while len(_compiled) > KEPT:
                _compiled.popitem(last=False)
        _compiled.move_to_end(key)
        return _compiled[key][0]


def _identity(target: TargetRecord) -> str:
    """Describe `target` so that two records that compile alike have the same description."""
    fields = {field.name: getattr(target, field.name) for field in dataclasses.fields(target)}
    del fields["package"]  # links files, which no test of an executable in memory does
    fields["schedule"] = [step.info.name for step in target.schedule]
    return repr(fields)
