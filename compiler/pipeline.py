"""From a lowered IRModule to one that the virtual machine runs: five named phases, each a list of passes."""

from __future__ import annotations

from dataclasses import dataclass

import tvm
from tvm import relax
from tvm.ir.transform import Pass

from argosy.compiler.passes.fuse_linear import FuseLinear
from argosy.compiler.passes.lift_packing import LiftPacking
from argosy.compiler.passes.share_views import ShareViews
from argosy.compiler.targets.record import TargetRecord


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of the pipeline that has a name in dumps and timings."""

    name: str
    passes: tuple[Pass, ...]


def pipeline(target: TargetRecord) -> tuple[Phase, ...]:
    """The phases that compile a lowered module for `target`, in order."""
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


def run(mod: tvm.IRModule, phase: Phase, target: TargetRecord) -> tvm.IRModule:
    """`mod` after one phase."""
    with target.tvm_target:
        return tvm.transform.Sequential(list(phase.passes), name=phase.name)(mod)
