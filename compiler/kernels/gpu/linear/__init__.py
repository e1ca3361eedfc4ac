"""Linear layers for GPUs: one kernel dequantizes, multiplies, and adds bias and residual."""

from argosy.compiler.kernels.gpu.linear.plan import GpuLinear, GpuLinearPlan

__all__ = ["GpuLinear", "GpuLinearPlan"]
