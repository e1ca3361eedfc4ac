"""The npm checks of the binding and the page: types and unit tests."""

from __future__ import annotations

import subprocess

import pytest
from web.machine import WEB, missing_node, node_environment, program

REASON = missing_node()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


@pytest.mark.parametrize("script", ["check", "test", "test:page"])
def test_npm_run(script: str) -> None:
    command = [str(program("npm")), "run", "--silent", script]
    done = subprocess.run(command, cwd=WEB, env=node_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
