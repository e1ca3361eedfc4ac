"""Check that modules are well formed between the phases of the compiler (`ARGOSY_CHECK=1`)."""

from __future__ import annotations

import tvm
from tvm import relax, s_tir

from argosy.support.errors import CompileError
from argosy.support.text import one_line


def check_well_formed(mod: tvm.IRModule, phase: str) -> None:
    """Verify definitions, types and blocks of every function of `mod`, as `phase` left it.

    Raises CompileError, which names the phase, for a module that is not well formed.
    """
    try:
        relax.analysis.well_formed(mod)
        s_tir.analysis.verify_well_formed(mod)
    except Exception as error:  # TVM's checks raise whatever class fits the violation
        raise CompileError(
            f"phase `{phase}` left a module that is not well formed: {one_line(error, 200)}",
            "argosy compile --debug-dump DIR writes the module after each pass",
        ) from error
