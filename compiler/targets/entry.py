"""A row of the table of targets: what can be known of a target without loading a compiler.

This module, and every module that defines an entry, imports neither TVM nor numpy, because `--help`, `argosy list
targets` and a build with nothing to do read the table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from argosy.quant.scheme import Scheme, scheme_named
from argosy.support.checks import Check
from argosy.support.progress import Progress

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord

# Build option -> its values. A target lists those that it honours in `TargetEntry.options`.
OPTION_VALUES: dict[str, tuple[str, ...]] = {"activations": ("int8", "int16", "f32"), "kv": ("f16", "f32")}

Resolve: TypeAlias = "Callable[[str, Mapping[str, str]], TargetRecord]"


@dataclass(frozen=True, slots=True)
class TargetEntry:
    """What `--target` can name.

    `device` is the kind of device that runs its libraries, and `schemes` are the quantization schemes that it has
    kernels for (None: all). `companions` maps a scheme to the targets that are built along with this one, for devices
    that lack what the scheme computes in. `promised_binding` and `largest_binding` are the bytes of one tensor that
    kernels can read on every device of that kind, and on the best (None: no limit). `options` maps each build option
    that the target honours to its default for a scheme.

    `resolve(scheme, settings)` loads the compiler and returns the record; `settings` has a value for every one of
    `options`. `prepare` makes sure that libraries can be linked, and raises TargetError if not. `machine_key` returns
    what the generated instructions depend on beyond the sources of the compiler. `runs_here` tells whether this machine
    can run its libraries, and `checks` yields what `argosy doctor` reports of it.
    """

    name: str
    summary: str
    device: str
    resolve: Resolve
    prepare: Callable[[Progress], None]
    schemes: tuple[str, ...] | None = None
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    promised_binding: int | None = None
    largest_binding: int | None = None
    options: Mapping[str, Callable[[Scheme], str]] = field(default_factory=dict)
    machine_key: Callable[[], list[str]] = list
    runs_here: Callable[[], bool] = bool
    checks: Callable[[], Iterable[Check]] = tuple

    def settings(self, scheme: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return a value for every option that the target honours: as `given`, or the default for `scheme`."""
        chosen = scheme_named(scheme)
        return {option: given.get(option) or default(chosen) for option, default in self.options.items()}
