"""Run README.md: its commands on the demo model, and its Python example, the way a user types them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from web_artefact import WEBGPU, add_library

from argosy.dist.build_directory import open_build_directory
from argosy.dist.manifest import read_manifest
from argosy.support.errors import ArgosyError
from argosy.web import page

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = re.findall(r"^\| `(argosy [^`]+)` \|", README, re.MULTILINE)
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)

ENVIRONMENT = {**os.environ, "ARGOSY_DIST": "dist/out", "NO_COLOR": "1"}

# What the commands must print on stdout. `eval` reads a chapter with two models; here it reads a few lines with one.
EXPECTED = {
    "build": r"weights +up to date .*config +up to date .*library +up to date ",
    "run": r"Paris",
    "chat": r"\w",
    "web": r"^http://127\.0\.0\.1:\d+/$",
    "ls": r"smollm2-135m-q4f16_1 .*MB",
    "list": r"smollm2-135m-q4f16_1",
    "tokenize": r"Hello",
    "verify": r"files, .*all as the manifest says",
    "sign": r"^$",
    "doctor": r"^ok +python.*models can be built and run on this machine",
    "eval": r"KL divergence +0\S* ± 0.*same top token +100\.0 %",
    "bench": r"decode, context 4 .*prefill, 8 tokens .*share reached.*process start to first token",
    "inspect": r"params_shard_0\.bin.*weights_layout +[0-9a-f]{64}",
    "convert": r"weights +up to date ",
    "config": r"config +up to date ",
    "compile": r"library +up to date ",
}


@pytest.fixture(scope="module")
def folder(demo_artefact: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a user's after `make chat` and `make web`: writable copies of the demo model in dist/out/."""
    folder = tmp_path_factory.mktemp("readme")
    for scheme in ("keep", "q4f16_1"):
        shutil.copytree(demo_artefact(scheme), folder / "dist" / "out" / f"smollm2-135m-{scheme}")
    (folder / "text.txt").write_text("Alice was beginning to get very tired of sitting by her sister.\n" * 2)
    return folder


def add_web_library(folder: Path) -> None:
    """Add an empty module as the library, which a server does not run."""
    if not page.is_built():
        try:
            page.find_npm()
        except ArgosyError as error:
            pytest.skip(f"the chat page is not built: {error.message}")
    directory = folder / "dist" / "out" / "smollm2-135m-q4f16_1"
    made = read_manifest(directory)
    with open_build_directory(
        directory, model=made.model, quantization=made.quantization, checkpoint_digest=made.checkpoint_digest
    ) as build:
        add_library(build, WEBGPU)


def serve(words: list[str], folder: Path) -> str:
    """Start a server, fetch its page and stop it with Ctrl-C; return the address that it printed."""
    process = subprocess.Popen(
        words, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    printed = process.stdout.readline()
    assert printed, process.communicate()[1]
    with urllib.request.urlopen(printed.strip(), timeout=60) as answer:
        assert b"<title>" in answer.read()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in said, said
    return printed


def run(words: list[str], folder: Path) -> str:
    """Run a command that must succeed; return its standard output."""
    done = subprocess.run(
        words, cwd=folder, env=ENVIRONMENT, input="Hello!\n/exit\n", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_does_what_it_says(line: str, folder: Path) -> None:
    program, name, *arguments = shlex.split(line)
    assert program == "argosy"
    if name == "eval":
        arguments += ["--text", "text.txt", "--reference", "smollm2-135m-keep"]
    if name == "bench":
        arguments += ["--contexts", "4", "--prefill", "8", "--repeats", "1"]
    if name == "web":
        add_web_library(folder)
        arguments += ["--no-open"]
    if name == "chat":
        arguments += ["--max-tokens", "8"]
    if name == "sign":
        run([sys.executable, "-m", "argosy.cli", "sign", "--new-key", "my.key", "--no-password"], folder)
    execute = serve if name == "web" else run
    printed = execute([sys.executable, "-m", "argosy.cli", name, *arguments], folder)
    assert re.search(EXPECTED[name], printed, re.DOTALL | re.MULTILINE), printed


def test_the_python_example_of_the_readme(folder: Path) -> None:
    printed = run([sys.executable, "-c", EXAMPLE], folder)
    answer, stats = printed.rstrip("\n").rsplit("\n", 1)
    assert len(answer.split()) > 4
    assert re.search(r"decode: [\d.]+ tok/s \(\d+ tokens\)", stats)


def test_the_demo_model_is_the_one_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    model, scheme = (re.search(rf"^{name} \?= (\S+)$", makefile, re.MULTILINE) for name in ("MODEL", "QUANTIZATION"))
    assert model is not None and scheme is not None
    assert f"argosy run {model[1]}" in README and f"--quantization {scheme[1]}" in README
