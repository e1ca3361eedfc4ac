"""Fixtures of the browser tests: tiny artefacts, the built binding, a server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from web.machine import WEB, Serve, node_environment, program, served
from web.tiny_artefacts import Artefact, build_tiny, save_letters_checkpoint


@pytest.fixture(scope="session")
def tiny_artefact(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """The read-only artefact directory of the tiny model in a scheme, built on first use."""
    root = tmp_path_factory.mktemp("web")
    built: dict[str, Path] = {}

    def artefact(quantization: str) -> Path:
        if quantization not in built:
            if not built:
                save_letters_checkpoint(root / "tiny")
            built[quantization] = build_tiny(root / "tiny", quantization, root / f"tiny-{quantization}")
        return built[quantization]

    return artefact


@pytest.fixture(scope="session")
def serve() -> Iterator[Serve]:
    """The URL of a server for an artefact directory; servers run until the session ends."""
    with ExitStack() as servers:
        addresses: dict[Path, str] = {}

        def address(directory: Path) -> str:
            if directory not in addresses:
                addresses[directory] = servers.enter_context(served(directory)).url
            return addresses[directory]

        yield address


@pytest.fixture(scope="session")
def binding() -> Path:
    """The folder of `@argosy/web`, built from the current sources."""
    command = [str(program("npm")), "run", "--silent", "build"]
    done = subprocess.run(command, cwd=WEB, env=node_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return WEB / "dist"
