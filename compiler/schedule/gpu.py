"""ScheduleGpu: spread the loops that no kernel of ours replaced over workgroups.

TVM's dlight rules do it, from specific to general; each is tried on what the ones before it left. They read the limits
of a workgroup from the current TVM target, which a GPU's record makes from its traits.
"""

from __future__ import annotations

import tvm
from tvm.s_tir import dlight


def ScheduleGpu() -> tvm.transform.Pass:
    """Return the pass. It leaves alone what carries `tirx.is_scheduled`."""
    return dlight.ApplyDefaultSchedule(
        dlight.gpu.Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )
