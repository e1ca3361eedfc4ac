"""Linear layers for CPUs: a `LinearKernel` and what the target can do go in, a scheduled PrimFunc comes out."""

from argosy.compiler.kernels.cpu.linear.choice import LinearPlan
from argosy.compiler.kernels.cpu.linear.dot import DotLinear
from argosy.compiler.kernels.cpu.linear.exact import ExactLinear
from argosy.compiler.kernels.linear import InputNorm, LinearKernel, TileShape

__all__ = ["DotLinear", "ExactLinear", "InputNorm", "LinearKernel", "LinearPlan", "TileShape"]
