"""The WebGPU target's row of the table of targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from argosy.compiler.targets.entry import TargetEntry
from argosy.compiler.targets.webgpu.schemes import DTYPES, HALVES, LARGEST_BINDING, PROMISED_BINDING
from argosy.support.checks import Check
from argosy.support.errors import ArgosyError
from argosy.support.progress import Progress

if TYPE_CHECKING:
    from argosy.compiler.targets.record import TargetRecord


def _resolve(scheme: str, settings: Mapping[str, str]) -> TargetRecord:
    from argosy.compiler.targets.webgpu.target import webgpu_target

    return webgpu_target(scheme)


def _resolve_f32(scheme: str, settings: Mapping[str, str]) -> TargetRecord:
    from argosy.compiler.targets.webgpu.target import webgpu_f32_target

    return webgpu_f32_target(scheme)


def _prepare(progress: Progress) -> None:
    from argosy.compiler.targets.webgpu.package import prepare

    prepare(progress)


def _checks() -> Iterator[Check]:
    """Yield a check of the linker for browsers."""
    from argosy.compiler.targets.webgpu.pack.toolchain import find_toolchain

    try:
        found = find_toolchain()
    except ArgosyError as error:
        yield Check("browser linker", False, error.message, remedy=error.hint)
    else:
        yield Check("browser linker", True, f"{found.name} {found.version}")


# The same weights for adapters without 16-bit floats; `webgpu` brings it along where the scheme needs them.
WEBGPU_F32 = TargetEntry(
    name="webgpu-f32",
    summary="the same in 32-bit floats; `webgpu` builds it too for schemes in 16 bits, which some adapters lack",
    device="webgpu",
    resolve=_resolve_f32,
    prepare=_prepare,
    schemes=tuple(DTYPES),
    promised_binding=PROMISED_BINDING,
    largest_binding=LARGEST_BINDING,
)
WEBGPU = TargetEntry(
    name="webgpu",
    summary="browsers with WebGPU, and Node; computes in the floats of the scheme, 16 or 32 bits",
    device="webgpu",
    resolve=_resolve,
    prepare=_prepare,
    schemes=tuple(DTYPES),
    promised_binding=PROMISED_BINDING,
    largest_binding=LARGEST_BINDING,
    companions={scheme: (WEBGPU_F32.name,) for scheme in HALVES},
    checks=_checks,
)
