"""Compile a lowered IRModule to one that the virtual machine runs: five named phases, each a list of passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir.instrument import PassInstrument
from tvm.ir.transform import Pass, PassContext

from argosy.compiler.check import check_well_formed
from argosy.compiler.passes.fuse_linear import FuseLinear
from argosy.compiler.passes.lift_packing import LiftPacking
from argosy.compiler.passes.share_views import ShareViews
from argosy.compiler.targets.record import TargetRecord
from argosy.support import env


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of the pipeline that has a name in dumps and timings. Its passes have names of their own."""

    name: str
    passes: tuple[Pass, ...]


def pipeline(target: TargetRecord) -> tuple[Phase, ...]:
    """Return the phases that compile a lowered module for `target`, in order."""
    return (
        Phase("fuse", (FuseLinear(target.linear), LiftPacking())),
        Phase(
            "legalize",
            (
                relax.transform.LegalizeOps(),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FoldConstant(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination(),
            ),
        ),
        Phase("schedule", target.schedule),
        Phase(
            "plan-memory",
            (
                relax.transform.RewriteDataflowReshape(),
                relax.transform.ToNonDataflow(),
                relax.transform.RemovePurityChecking(),
                relax.transform.CallTIRRewrite(),
                relax.transform.StaticPlanBlockMemory(),
            ),
        ),
        Phase(
            "vm",
            (
                relax.transform.LowerAllocTensor(),
                relax.transform.LowerRuntimeBuiltin(),
                relax.transform.ComputePrimValue(),
                relax.transform.CanonicalizeBindings(),
                ShareViews(),
                relax.transform.VMShapeLower(),
                relax.transform.AttachGlobalSymbol(),
            ),
        ),
    )


def run(
    mod: tvm.IRModule, phase: Phase, target: TargetRecord, instruments: Sequence[PassInstrument] = ()
) -> tvm.IRModule:
    """Run the passes of one phase on `mod`, each of them seen by `instruments`.

    Raises CompileError if ARGOSY_CHECK is on and the phase leaves a module that is not well formed.
    """
    passes = tvm.transform.Sequential(list(phase.passes), name=phase.name)
    with target.tvm_target:
        if instruments:
            with PassContext(instruments=list(instruments)):
                mod = passes(mod)
        else:
            mod = passes(mod)
    if env.CHECK.get():
        check_well_formed(mod, phase.name)
    return mod
