"""SoftenHalves: convert 16-bit floats in integer arithmetic.

    y[i:i + 16] = Cast("float32x16", x[i:i + 16])
    ->
    y[i:i + 16] = Let(h, Cast("int32x16", reinterpret("uint16x16", x[i:i + 16])), shifts, additions and selects of h)

This is for processors without conversion instructions, for which LLVM calls a function for every element. Results are
those of the instructions: exact for subnormal numbers too, the nearest half with ties to even, and NaN for NaN. The bit
manipulation is Giesen's (https://gist.github.com/rygorous/2156668), with selects in place of branches.
"""

from __future__ import annotations

from collections.abc import Callable

import tvm
import tvm_ffi
from tvm import DataType, tirx

from argosy.compiler.kernels.cpu.lanes import constant, convert, dtype

# Bits of a float32; one more in the exponent doubles the number.
_EXPONENT = 1 << 23
_REBIAS = 112 * _EXPONENT  # added to the bits of a half, moved into place, gives a float of the same value
_SMALLEST_NORMAL = 113 * _EXPONENT  # 2^-14: smaller halves are subnormal, and 2^-24 apart
_ONE_HALF = 126 * _EXPONENT  # 0.5: the floats from there to 1 are 2^-24 apart as well
_TOO_LARGE = 143 * _EXPONENT  # 2^16
_INFINITY = 255 * _EXPONENT


def SoftenHalves() -> tvm.transform.Pass:
    """Create the pass, for scheduled PrimFuncs. Other casts stay; running it twice changes nothing."""

    @tvm.transform.module_pass(opt_level=0, name="SoftenHalves")
    def soften(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        out = mod.clone()
        for name, function in mod.functions_items():
            if isinstance(function, tirx.PrimFunc):
                out.update_func(name, function.with_body(tvm_ffi.structural_map(function.body, (tirx.Cast, _softened))))
        return out

    return soften


def _softened(cast: tirx.Cast) -> tirx.Expr:
    source, target = DataType(str(cast.value.ty.dtype)), DataType(str(cast.ty.dtype))
    conversion = _CONVERSIONS.get((str(source.with_lanes(1)), str(target.with_lanes(1))))
    return cast if conversion is None else conversion(cast.value, source.lanes)


def _half_to_float(half: tirx.Expr, lanes: int) -> tirx.Expr:
    def of_bits(bits: tirx.Expr) -> tirx.Expr:
        sign = tirx.shift_left(bits & _int(0x8000, lanes), _int(16, lanes))
        moved = tirx.shift_left(bits & _int(0x7FFF, lanes), _int(13, lanes))
        return _named(moved, lambda moved: tirx.reinterpret(dtype("float32", lanes), of_moved(moved) | sign))

    def of_moved(moved: tirx.Expr) -> tirx.Expr:
        """Combine `moved`: exponent and fraction in the places they have in a float."""
        one_too_many = tirx.reinterpret(dtype("float32", lanes), moved + _int(_SMALLEST_NORMAL, lanes))
        subnormal = tirx.reinterpret(dtype("int32", lanes), one_too_many - constant(2.0**-14, lanes=lanes))
        finite = moved < _int(31 * _EXPONENT, lanes)
        normal = moved + tirx.Select(finite, _int(_REBIAS, lanes), _int(2 * _REBIAS, lanes))
        return tirx.Select(moved < _int(_EXPONENT, lanes), subnormal, normal)

    return _named(convert(tirx.reinterpret(dtype("uint16", lanes), half), "int32", lanes), of_bits)


def _float_to_half(value: tirx.Expr, lanes: int) -> tirx.Expr:
    def of_bits(bits: tirx.Expr) -> tirx.Expr:
        sign = tirx.shift_right(bits, _int(16, lanes)) & _int(0x8000, lanes)
        rounded = _named(bits & _int(0x7FFFFFFF, lanes), of_magnitude)
        return tirx.reinterpret(dtype("float16", lanes), convert(rounded | sign, "uint16", lanes))

    def of_magnitude(magnitude: tirx.Expr) -> tirx.Expr:
        """Round `magnitude`, the bits without the sign. Adding 0.5 rounds a subnormal; normal ones are rounded here."""
        near_half = tirx.reinterpret(dtype("float32", lanes), magnitude) + constant(0.5, lanes=lanes)
        subnormal = tirx.reinterpret(dtype("int32", lanes), near_half) - _int(_ONE_HALF, lanes)
        odd = tirx.shift_right(magnitude, _int(13, lanes)) & _int(1, lanes)
        normal = tirx.shift_right(magnitude - _int(_REBIAS - 0xFFF, lanes) + odd, _int(13, lanes))
        endless = tirx.Select(magnitude > _int(_INFINITY, lanes), _int(0x7E00, lanes), _int(0x7C00, lanes))
        finite = tirx.Select(magnitude < _int(_SMALLEST_NORMAL, lanes), subnormal, normal)
        return tirx.Select(magnitude < _int(_TOO_LARGE, lanes), finite, endless)

    return _named(tirx.reinterpret(dtype("int32", lanes), value), of_bits)


_CONVERSIONS: dict[tuple[str, str], Callable[[tirx.Expr, int], tirx.Expr]] = {
    ("float16", "float32"): _half_to_float,
    ("float32", "float16"): _float_to_half,
}


def _int(value: int, lanes: int) -> tirx.Expr:
    return constant(value, "int32", lanes)


def _named(value: tirx.Expr, body: Callable[[tirx.Var], tirx.Expr]) -> tirx.Expr:
    """Return `body` of a variable that holds `value`, so that `value` is computed once."""
    var = tirx.Var("bits", value.ty.dtype)
    return tirx.Let(var, value, body(var))
