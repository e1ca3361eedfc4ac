"""The families, one file for each `model_type`.

Every module here that has a `FAMILY` is one, under its own name; the others are what families share.
"""

from __future__ import annotations

import importlib
import pkgutil

from argosy.model_defs.family import Family

_MODULES = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]

FAMILIES: dict[str, Family] = {
    module.__name__.rpartition(".")[2]: module.FAMILY for module in _MODULES if hasattr(module, "FAMILY")
}
