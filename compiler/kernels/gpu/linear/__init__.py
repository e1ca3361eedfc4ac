"""Linear layers for GPUs: dequantization, bias and residual in one kernel, with the sizes of the matrix as arguments."""

from argosy.compiler.kernels.gpu.linear.plan import GpuLinear, GpuLinearPlan

__all__ = ["GpuLinear", "GpuLinearPlan"]
