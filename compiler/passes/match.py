"""Find the definition and the users of each variable of a relax function, for the passes that fuse."""

from __future__ import annotations

from collections import defaultdict

from tvm import IRModule, ir, relax

from argosy.quant.relax_ops import ATTRIBUTE, ROWS_ATTRIBUTE
from argosy.quant.scheme import F16, F32, FORMATS, Format


class Dataflow:
    """Definitions and users of the variables of one relax function."""

    def __init__(self, mod: IRModule, function: relax.Function) -> None:
        self.mod = mod
        self.values: dict[relax.Var, relax.Expr] = {}
        self.users: dict[relax.Var, list[relax.Var]] = defaultdict(list)
        for block in function.body.blocks:
            for binding in block.bindings:
                self.values[binding.var] = binding.value
                for var in relax.analysis.free_vars(binding.value):
                    self.users[var].append(binding.var)
        for var in relax.analysis.free_vars(function.body.body):
            self.users[var].append(var)  # the function's result counts as a use

    def value(self, expr: relax.Expr) -> relax.Expr:
        """Return the expression that `expr` is bound to if it is a bound variable, else `expr`."""
        return self.values.get(expr, expr) if isinstance(expr, relax.Var) else expr

    def call(self, expr: relax.Expr, op: str) -> relax.Call | None:
        """Return the call of relax operator `op` that `expr` is bound to, or None."""
        value = self.value(expr)
        if isinstance(value, relax.Call) and isinstance(value.op, ir.Op) and value.op.name == op:
            return value
        return None

    def only_user(self, var: relax.Var) -> relax.Var | None:
        """Return the variable whose definition is the only use of `var`, or None."""
        users = self.users[var]
        return users[0] if len(users) == 1 and not users[0].same_as(var) else None

    def uncast(self, expr: relax.Expr) -> relax.Expr:
        """Return the operand of `expr` if it is a conversion of dtypes, else `expr`."""
        cast = self.call(expr, "relax.astype")
        return cast.args[0] if cast is not None else expr

    def weight(self, expr: relax.Expr) -> tuple[Format, list[relax.Expr]] | None:
        """Return format and stored tensors of the (n, k) matrix `expr`, if it is a parameter or a dequantized one."""
        call = self.call(expr, "relax.call_tir")
        if call is not None:
            attrs = self.mod[call.args[0]].attrs
            if attrs is not None and ATTRIBUTE in attrs:
                return FORMATS[attrs[ATTRIBUTE]], list(call.args[1])
            return None
        formats = {"float32": F32, "float16": F16}
        stored = self.uncast(expr)
        if isinstance(stored.ty, relax.TensorType) and str(stored.ty.dtype) in formats and stored.ty.ndim == 2:
            return formats[str(stored.ty.dtype)], [stored]
        return None

    def row_read(self, var: relax.Var) -> tuple[Format, relax.Expr, list[relax.Expr]] | None:
        """Return format, row ids and stored tensors, if `var` holds rows of a stored matrix."""
        call = self.call(var, "relax.call_tir")
        if call is None:
            return None
        attrs = self.mod[call.args[0]].attrs
        if attrs is None or ROWS_ATTRIBUTE not in attrs:
            return None
        ids, *weights = call.args[1]
        return FORMATS[attrs[ROWS_ATTRIBUTE]], ids, weights

    def parameter_indices(self, weights: list[relax.Expr]) -> list[int]:
        """Return the index of each of `weights` in the packed parameters, -1 for one that is not a parameter."""
        values = [self.value(weight) for weight in weights]
        return [value.index if isinstance(value, relax.TupleGetItem) else -1 for value in values]
