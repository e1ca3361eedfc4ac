"""What tests of several folders share: the demo model built once in a session for each scheme that is asked for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from argosy.support.progress import SilentProgress

DEMO_MODEL = "smollm2-135m"

# A shell starts what it puts into the background with Ctrl-C ignored, which programs that tests interrupt inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_artefact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The artefact directory of the demo model in a scheme, built on first use."""
    from argosy.build import BuildRequest, build

    root = tmp_path_factory.mktemp("demo")
    built: dict[str, Path] = {}

    def artefact(quantization: str = "q4f16_1") -> Path:
        if quantization not in built:
            request = BuildRequest(DEMO_MODEL, quantization=quantization, output=root / f"{DEMO_MODEL}-{quantization}")
            built[quantization] = build(request, SilentProgress()).directory
        return built[quantization]

    return artefact
