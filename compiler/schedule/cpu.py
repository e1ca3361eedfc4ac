"""ScheduleCpu: give vector and parallel loops to the PrimFuncs that no hand-written kernel replaced.

    for i, j: out[i, j] = f(in[i, j])   ->   parallel for i_j_outer: vector for j_inner: ...

Rules are tried from specific to general; a rule returns None if it does not apply, and the last one changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import s_tir, tirx

from argosy.compiler.kernels.cpu.lanes import LANES
from argosy.compiler.kernels.cpu.rope import rope
from argosy.model_defs.components.rotation import ROPE_ATTRIBUTE

PARALLEL_ELEMENTS = 16384  # below this, waking the thread pool costs more than it saves

Rule = Callable[[tirx.PrimFunc], "tirx.PrimFunc | None"]


def ScheduleCpu() -> tvm.transform.Pass:
    """Create the pass. It skips functions with attribute `tirx.is_scheduled`, so running it twice changes nothing."""

    @tvm.transform.module_pass(opt_level=0, name="ScheduleCpu")
    def schedule(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        out = mod.clone()
        for name, function in mod.functions_items():
            if isinstance(function, tirx.PrimFunc) and not _is_scheduled(function):
                done = next(made for rule in RULES if (made := rule(function)) is not None)
                out.update_func(name, done.with_attr("tirx.is_scheduled", True))
        return out

    return schedule


def _is_scheduled(function: tirx.PrimFunc) -> bool:
    attrs = function.attrs
    return attrs is not None and "tirx.is_scheduled" in attrs and bool(attrs["tirx.is_scheduled"])


def _rope(function: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Replace a rotation by its kernel."""
    attrs = function.attrs
    return rope(function, int(attrs[ROPE_ATTRIBUTE])) if attrs is not None and ROPE_ATTRIBUTE in attrs else None


def _inline_then_loops(function: tirx.PrimFunc) -> tirx.PrimFunc | None:
    """Inline producers into their consumers, then arrange the loops of every block that is left."""
    try:
        sch = s_tir.Schedule(function)
        for block in sch.get_child_blocks(sch.get_sblock("root"))[:-1]:
            if not _reduces(sch, block):
                try:
                    sch.compute_inline(block)
                except s_tir.ScheduleError:
                    continue  # its consumer cannot hold it: it stays a loop of its own
        for block in sch.get_child_blocks(sch.get_sblock("root")):
            _arrange(sch, block)
    except s_tir.ScheduleError:
        return None
    return sch.mod["main"]


def _reduces(sch: s_tir.Schedule, block) -> bool:
    return any(v.iter_type == tirx.IterVar.CommReduce for v in sch.get(block).iter_vars)


def _arrange(sch: s_tir.Schedule, block) -> None:
    """Fuse the spatial loops and share them among the threads; vectorize the innermost unless the block reduces."""
    kinds = [v.iter_type for v in sch.get(block).iter_vars]
    loops = sch.get_loops(block)
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == tirx.IterVar.DataPar]
    if not spatial or kinds[: len(spatial)] != [tirx.IterVar.DataPar] * len(spatial):
        return
    extents = [sch.get(loop).extent for loop in spatial]
    static = 1
    for extent in extents:
        static *= int(extent) if isinstance(extent, tirx.IntImm) else 1
    dynamic = not all(isinstance(extent, tirx.IntImm) for extent in extents)
    last = extents[-1]
    fused = sch.fuse(*spatial) if len(spatial) > 1 else spatial[0]
    if len(spatial) == len(kinds) and isinstance(last, tirx.IntImm) and int(last) % LANES == 0:
        fused, inner = sch.split(fused, [None, LANES])
        sch.vectorize(inner)
    if static >= PARALLEL_ELEMENTS or (dynamic and static >= LANES):
        sch.parallel(fused)


def _serial(function: tirx.PrimFunc) -> tirx.PrimFunc:
    """Leave the function as it is: the rule that always applies."""
    return function


RULES: tuple[Rule, ...] = (_rope, _inline_then_loops, _serial)
