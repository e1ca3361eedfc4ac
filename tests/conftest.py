"""What tests of several folders share: their order, and the demo model, built once in a session for each scheme."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from neighbours import changed_files, next_to, ordered

from argosy.support.progress import SilentProgress

DEMO_MODEL = "smollm2-135m"

# A shell ignores Ctrl-C in what it starts in the background, and programs that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The user's own store, with its models and the history of questions, is neither read nor written.
os.environ["XDG_DATA_HOME"] = tempfile.mkdtemp(prefix="argosy-tests-")

# Whatever a test compiles is checked between the phases.
os.environ.setdefault("ARGOSY_CHECK", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the tests of changed files first, then by folder; the order inside a file stays."""
    files = list(dict.fromkeys(item.path for item in items))
    if len(files) > 1:
        first = next_to(files, changed_files(config.rootpath), config.rootpath)
        place = {path: i for i, path in enumerate(ordered(files, first, config.rootpath))}
        items.sort(key=lambda item: place[item.path])


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_DATA_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def demo_artefact(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the artefact directory of the demo model in a scheme, built on first use."""
    from argosy.build import BuildRequest, build

    root = tmp_path_factory.mktemp("demo")
    built: dict[str, Path] = {}

    def artefact(quantization: str = "q4f16_1") -> Path:
        if quantization not in built:
            request = BuildRequest(DEMO_MODEL, quantization=quantization, output=root / f"{DEMO_MODEL}-{quantization}")
            built[quantization] = build(request, SilentProgress()).directory
        return built[quantization]

    return artefact
