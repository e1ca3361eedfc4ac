"""Find targets by name, and check that they can do what a build asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from argosy.compiler.targets.entry import OPTION_VALUES, TargetEntry
from argosy.compiler.targets.table import TARGETS
from argosy.support.errors import TargetError, UsageError
from argosy.support.text import did_you_mean, human_size

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord

__all__ = [
    "TARGETS", "check_options", "check_scheme", "check_targets", "check_tensors", "target_named", "with_companions",
]  # fmt: skip


def check_targets(names: Sequence[str]) -> tuple[str, ...]:
    """Return `names` without repetitions.

    Raises TargetError for an unknown name, UsageError if there is none.
    """
    if not names:
        raise UsageError("no target was named", f"one or more of: {', '.join(TARGETS)}")
    for name in names:
        if name not in TARGETS:
            raise TargetError(f"unknown target `{name}`", did_you_mean(name, TARGETS))
    return tuple(dict.fromkeys(names))


def with_companions(names: Sequence[str], scheme: str) -> tuple[str, ...]:
    """Return the targets `names`, each followed by those that are built along with it for models stored by `scheme`."""
    wanted = [other for name in names for other in (name, *TARGETS[name].companions.get(scheme, ()))]
    return tuple(dict.fromkeys(wanted))


def check_scheme(names: Sequence[str], scheme: str) -> None:
    """Raise TargetError if one of the targets `names` has no kernels for models stored by `scheme`."""
    for name in names:
        schemes = TARGETS[name].schemes
        if schemes is not None and scheme not in schemes:
            raise TargetError(
                f"the target `{name}` has no kernels for the scheme `{scheme}`", f"one of: {', '.join(schemes)}"
            )


def check_options(names: Sequence[str], given: Mapping[str, str]) -> None:
    """Raise UsageError if a `given` build option has an unknown value, or one of the targets `names` ignores it."""
    for option, value in given.items():
        if value not in OPTION_VALUES[option]:
            raise UsageError(f"unknown value `{value}` of `--{option}`", f"one of: {', '.join(OPTION_VALUES[option])}")
        others = [name for name in names if option in TARGETS[name].options]
        for name in names:
            if name not in others:
                apart = f", or build for `{','.join(others)}` in a command of its own" if others else ""
                raise UsageError(f"the target `{name}` does not take `--{option}`", f"leave `--{option}` out{apart}")


def check_tensors(names: Sequence[str], sizes: Mapping[str, int]) -> list[str]:
    """Return a note for each of the targets `names` with devices that cannot read the largest tensor in one piece.

    `sizes` maps tensors to bytes. Raises TargetError if no device of a target can read it.
    """
    notes = []
    tensor = max(sizes, key=sizes.__getitem__)
    has = f"the tensor `{tensor}` has {human_size(sizes[tensor])}"
    for entry in map(TARGETS.__getitem__, names):
        if entry.largest_binding is not None and sizes[tensor] > entry.largest_binding:
            raise TargetError(
                f"{has}, and kernels of the target `{entry.name}` can read at most "
                f"{human_size(entry.largest_binding)} of one",
                f"a 4-bit scheme makes it smaller: --quantization {' or '.join(_schemes_of_4_bits(entry))}",
            )
        if entry.promised_binding is not None and sizes[tensor] > entry.promised_binding:
            promised = human_size(entry.promised_binding)
            notes.append(f"{has}; some devices of the target `{entry.name}` can read only {promised} of one")
    return notes


def _schemes_of_4_bits(entry: TargetEntry) -> list[str]:
    from argosy.quant.scheme import SCHEMES

    schemes = [scheme for scheme in SCHEMES.values() if scheme.name in (entry.schemes or SCHEMES)]
    return [scheme.name for scheme in schemes if scheme.matrix is not None and scheme.matrix.bits == 4]


def target_named(
    name: str, activations: str | None = None, kv: str | None = None, scheme: str = "q4f32_1"
) -> TargetRecord:
    """Return the record of the target called `name`, for models stored by `scheme`.

    `activations` is what quantized matrices are multiplied with: rounded to `int8` or, more finely, `int16` in groups,
    or exact in `f32`. `kv` is what keys and values are kept in, `f16` or `f32`. None is the target's default.

    Raises TargetError for an unknown name or a scheme without kernels, UsageError for an option that it ignores.
    """
    check_targets([name])
    check_scheme([name], scheme)
    options = {"activations": activations, "kv": kv}
    given = {option: value for option, value in options.items() if value is not None}
    check_options([name], given)
    entry = TARGETS[name]
    return entry.resolve(scheme, entry.settings(scheme, given))
