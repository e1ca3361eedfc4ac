"""Artefacts that several test files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_checkpoint import save_checkpoint

from argosy.support.progress import SilentProgress


@pytest.fixture(scope="session")
def tiny_artefact(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`tiny_artefact(**options)`: the read-only artefact of the tiny checkpoint, built once for equal options."""
    from argosy.build import BuildRequest, build

    root = tmp_path_factory.mktemp("tiny")
    checkpoint = str(save_checkpoint(root / "tiny"))
    built: dict[tuple[tuple[str, object], ...], Path] = {}

    def artefact(**options: object) -> Path:
        recipe = tuple(sorted(options.items()))
        if recipe not in built:
            request = BuildRequest(checkpoint, output=root / str(len(built)), **options)  # type: ignore[arg-type]
            built[recipe] = build(request, SilentProgress()).directory
        return built[recipe]

    return artefact
