"""The passes that make scheduled kernels safe to print as WGSL.

Kernels and models are written for every device; what only this language restricts is changed here, after scheduling.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import DataType, tirx
from tvm.ir.transform import Pass

# Names that no variable may have: https://www.w3.org/TR/WGSL/#keyword-summary and #reserved-words.
_WORDS = """
alias break case const const_assert continue continuing default diagnostic discard else enable false fn for if let
loop override requires return struct switch true var while

NULL Self abstract active alignas alignof as asm asm_fragment async attribute auto await become cast catch class
co_await co_return co_yield coherent column_major common compile compile_fragment concept const_cast consteval
constexpr constinit crate debugger decltype delete demote demote_to_helper do dynamic_cast enum explicit export
extends extern external fallthrough filter final finally friend from fxgroup get goto groupshared highp impl
implements import inline instanceof interface layout lowp macro macro_rules match mediump meta mod module move mut
mutable namespace new nil noexcept noinline nointerpolation non_coherent noncoherent noperspective null nullptr of
operator package packoffset partition pass patch pixelfragment precise precision premerge priv protected pub public
readonly ref regardless register reinterpret_cast require resource restrict self set shared sizeof smooth snorm
static static_assert static_cast std subroutine super target template this thread_local throw trait try type
typedef typeid typename typeof union unless unorm unsafe unsized use using varying virtual volatile wgsl where with
writeonly yield
"""
RESERVED = frozenset(_WORDS.split())
_FINITE = {"float32": float.fromhex("0x1.fffffep+127"), "float16": 65504.0}
_PERIODIC = {"tirx.cos": tirx.cos, "tirx.sin": tirx.sin}


def ReduceAngles() -> Pass:
    """Take whole turns off the angles of float32 sines and cosines.

        cos(x)   ->   cos(x - turns * 6.28125 - turns * (2 pi - 6.28125)),  turns = floor(x / (2 pi) + 1 / 2)

    WGSL promises nothing about the sine of an angle outside [-pi, pi]. 2 pi is subtracted in two parts; the first has
    so few bits that its multiples are exact (Cody and Waite 1980).
    """

    def reduced(call: tvm.ir.Call) -> tirx.Expr:
        function = _PERIODIC.get(call.op.name) if isinstance(call.op, tvm.ir.Op) else None
        if function is None or str(call.ty.dtype) != "float32":
            return call
        return function(within_half_a_turn(call.args[0]))

    return _on_kernels("ReduceAngles", lambda function: tvm_ffi.structural_map(function, (tvm.ir.Call, reduced)))


def within_half_a_turn(angle: tirx.Expr) -> tirx.Expr:
    """Return `angle`, float32, less whole turns: in [-pi, pi] but for rounding."""
    turns = tirx.floor(angle * tirx.const(1 / math.tau, "float32") + tirx.const(0.5, "float32"))
    coarse = 6.28125
    return angle - turns * tirx.const(coarse, "float32") - turns * tirx.const(math.tau - coarse, "float32")


def FiniteConstants() -> Pass:
    """Replace infinite constants by the largest finite ones of their dtype: WGSL cannot spell infinity.

    The code generator prints seven digits. Those of the largest finite numbers do not round up to infinity.
    """

    def finite(constant: tirx.FloatImm) -> tirx.Expr:
        largest = _FINITE.get(str(DataType(str(constant.ty.dtype)).with_lanes(1)))
        if largest is None or not math.isinf(constant.value):
            return constant
        return tirx.FloatImm(constant.ty.dtype, math.copysign(largest, constant.value))

    return _on_kernels("FiniteConstants", lambda function: tvm_ffi.structural_map(function, (tirx.FloatImm, finite)))


def RenameReserved() -> Pass:
    """Append `_` to the names of variables that are keywords or reserved words of WGSL.

    Arguments, variables and buffers keep their names when kernels are printed.
    """

    def rename(function: tirx.PrimFunc) -> tirx.PrimFunc:
        names: set[str] = set()

        def note(var: tirx.Var) -> tirx.Var:
            names.add(var.name)
            return var

        tvm_ffi.structural_map(function, (tirx.Var, note))
        if names.isdisjoint(RESERVED):
            return function
        renamed: dict[tirx.Var, tirx.Var] = {}

        def allowed(var: tirx.Var) -> tirx.Var:
            if var.name not in RESERVED:
                return var
            if var not in renamed:
                name = var.name + "_"
                while name in names:
                    name += "_"
                renamed[var] = tirx.Var(name, var.ty)
            return renamed[var]

        return tvm_ffi.structural_map(function, (tirx.Var, allowed))

    return _on_kernels("RenameReserved", rename)


def _on_kernels(name: str, change: Callable[[tirx.PrimFunc], tirx.PrimFunc]) -> Pass:
    """Return a pass that applies `change` to every PrimFunc."""

    @tvm.transform.module_pass(opt_level=0, name=name)
    def apply(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        out = mod.clone()
        for variable, function in mod.functions_items():
            if isinstance(function, tirx.PrimFunc):
                changed = change(function)
                if not changed.same_as(function):
                    out.update_func(variable, changed)
        return out

    return apply


FIXUPS: tuple[Pass, ...] = (ReduceAngles(), FiniteConstants(), RenameReserved())
