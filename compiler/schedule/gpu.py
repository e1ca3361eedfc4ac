"""ScheduleGpu: the PrimFuncs that no kernel of ours replaced go in, the same spread over workgroups come out.

TVM's dlight rules do it, from specific to general; each is tried on what the ones before it left.
"""

from __future__ import annotations

import tvm
from tvm.s_tir import dlight


def ScheduleGpu() -> tvm.transform.Pass:
    """The pass. It leaves alone what carries `tirx.is_scheduled`."""
    return dlight.ApplyDefaultSchedule(
        dlight.gpu.Matmul(),
        dlight.gpu.GEMV(),
        dlight.gpu.Reduction(),
        dlight.gpu.GeneralReduction(),
        dlight.gpu.Fallback(),
    )
