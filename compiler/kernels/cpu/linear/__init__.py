"""Compute linear layers on CPUs: generate scheduled PrimFuncs from `LinearKernel` records."""

from argosy.compiler.kernels.cpu.linear.base import TileShape
from argosy.compiler.kernels.cpu.linear.choice import CpuLinearPlan
from argosy.compiler.kernels.cpu.linear.dot import DotLinear
from argosy.compiler.kernels.cpu.linear.exact import ExactLinear

__all__ = ["CpuLinearPlan", "DotLinear", "ExactLinear", "TileShape"]
