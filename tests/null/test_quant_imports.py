"""Converting weights needs only numpy: no compiler, no torch, and no package above this one."""

from __future__ import annotations

import subprocess
import sys


def test_conversion_imports_neither_tvm_nor_torch() -> None:
    program = (
        "import sys, argosy.quant.convert\n"
        "heavy = {'tvm', 'torch', 'transformers', 'gguf', 'argosy.model_defs', 'argosy.compiler'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
