"""Run scenarios in Chromium and Node on this machine; they report as JSON.

`setup.sh` installs what this needs. The scenarios are the programs in `drivers/`.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "runtime_bindings" / "web"
DRIVERS = Path(__file__).parent / "drivers"
KEPT = ROOT / "dist" / "out" / "web"  # screenshots, and the output of failed scenarios

SWIFTSHADER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")  # float32 only
LAVAPIPE = ROOT / ".venv" / "lavapipe" / "icd.json"  # float16 as well
LAVAPIPE_GPU = LAVAPIPE.with_name("gpu.json")  # the same, in a form that Chromium accepts (lavapipe_gpu.c)
Serve = Callable[[Path], str]  # artefact directory -> URL of a server for it
OLDEST_NODE = (20, 19)
SETUP = "tests/web/setup.sh gets it"


def search_path() -> str:
    """PATH with the interpreter's folder first, where pip installs Node."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def program(name: str) -> str | None:
    """Find a program; None if it is missing."""
    return shutil.which(name, path=search_path())


@functools.cache
def missing_node() -> str | None:
    """Explain why Node cannot run the binding here, or return None."""
    node = program("node")
    if node is None or program("npm") is None:
        return f"Node is missing; {SETUP}"
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip().lstrip("v")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_NODE:
        return f"Node {version} is too old; {SETUP}"
    for package in ("playwright-core", "axe-core", "webgpu", "@mlc-ai/web-llm"):
        if not (WEB / "node_modules" / package).is_dir():
            return f"the npm package `{package}` is missing; {SETUP}"
    return None if SWIFTSHADER.is_file() else f"SwiftShader, which comes with Debian's Chromium, is missing; {SETUP}"


@functools.cache
def missing_chromium() -> str | None:
    """Explain why no page can be driven here, or return None."""
    if (reason := missing_node()) is not None:
        return reason
    return None if program("chromium") else f"Chromium is missing; {SETUP}"


@functools.cache
def missing_lavapipe() -> str | None:
    """Explain why nothing can be computed in float16 here, or return None."""
    if (reason := missing_node()) is not None:
        return reason
    return None if LAVAPIPE.is_file() else f"a lavapipe that Dawn takes is missing; {SETUP}"


@functools.cache
def missing_float16_chromium() -> str | None:
    """Explain why no page can compute in float16 here, or return None."""
    if (reason := missing_chromium() or missing_lavapipe()) is not None:
        return reason
    return None if LAVAPIPE_GPU.is_file() else f"a lavapipe that Chromium takes is missing; {SETUP}"


def node_environment(icd: Path = SWIFTSHADER) -> dict[str, str]:
    """Make the environment in which Node's `webgpu` uses the Vulkan driver `icd`, with Chromium's Vulkan loader."""
    loader = os.pathsep.join(filter(None, [str(SWIFTSHADER.parent), os.environ.get("LD_LIBRARY_PATH")]))
    return {**os.environ, "PATH": search_path(), "VK_ICD_FILENAMES": str(icd), "LD_LIBRARY_PATH": loader}


def drive(scenario: str, *, timeout: float, **options: Any) -> Any:
    """Run `drivers/<scenario>.mjs` with `options` as JSON on stdin; return the JSON of its last line.

    Raises AssertionError with its output if it fails or takes more than `timeout` seconds.
    """
    command = [str(program("node")), str(DRIVERS / f"{scenario}.mjs")]
    options.setdefault("chromium", program("chromium"))
    with tempfile.TemporaryDirectory(prefix="argosy-web-", ignore_cleanup_errors=True) as profiles:
        environment = {**os.environ, "PATH": search_path(), "TMPDIR": profiles}
        return _last_line(_run(command, environment, timeout, json.dumps(options, default=str)))


def run_node(script: Path, *arguments: str, timeout: float, icd: Path = SWIFTSHADER, **options: Any) -> Any:
    """Run a Node program that uses WebGPU through `icd`, `options` as JSON on stdin; return its last line's JSON."""
    command = [str(program("node")), str(script), *arguments]
    return _last_line(_run(command, node_environment(icd), timeout, json.dumps(options)))


def _run(command: list[str], environment: dict[str, str], timeout: float, given: str) -> str:
    # In its own session, so that a scenario that hangs is killed together with its browser.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=WEB,
        env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            printed, said = process.communicate(given, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            printed, said = process.communicate()
            raise AssertionError(f"{command[1]} took more than {timeout} s\n{printed[-4000:]}{said[-8000:]}") from None
        assert process.returncode == 0, f"{command[1]} failed\n{printed[-4000:]}{said[-8000:]}"
        return printed


def _last_line(printed: str) -> Any:
    lines = printed.strip().splitlines()
    assert lines, "the program printed nothing"
    return json.loads(lines[-1])


@dataclass(frozen=True, slots=True)
class Server:
    """A running `argosy web`: its URL and process."""

    url: str
    pid: int


@contextlib.contextmanager
def served(directory: Path) -> Iterator[Server]:
    """Run `argosy web` for the artefact in `directory`, on a free port."""
    command = [sys.executable, "-m", "argosy.cli", "web", str(directory), "--port", "0", "--no-open", "--json"]
    environment = {**os.environ, "PATH": search_path()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        try:
            assert line, f"`argosy web` ended with {server.wait(60)}"
            yield Server(str(json.loads(line)["url"]).rstrip("/") + "/", server.pid)
        finally:
            server.terminate()  # does nothing if it has ended
            server.wait(30)
