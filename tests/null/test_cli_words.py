"""Words from other programs are commands, or name the command that does it; help, completion and tokenize."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from argosy.cli import words
from argosy.cli.app import COMMANDS, cli
from argosy.cli.prompts import prompt_of
from argosy.support.errors import UsageError


def invoke(*args: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(cli, list(args), input=stdin)


@pytest.fixture(autouse=True)
def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_DIST", str(tmp_path / "built"))
    monkeypatch.chdir(tmp_path)


def test_every_word_leads_to_a_command() -> None:
    assert set(words.SAME.values()) <= set(COMMANDS) and not {*words.SAME, *words.INSTEAD} & set(COMMANDS)
    for word, instead in words.INSTEAD.items():
        result = invoke(word, "x", "--y")
        assert result.exit_code == 2 and f"`{word}`" in result.stderr and instead in result.stderr
        named = instead.split()[1]
        assert not instead.startswith("argosy ") or named in (*COMMANDS, "--version", "keeps", "has")
    for word, ours in words.SAME.items():
        page = invoke(word, "--help")
        assert page.exit_code == 0 and page.stdout.splitlines()[2:] == invoke(ours, "--help").stdout.splitlines()[2:]


def test_every_option_of_another_program_is_one_of_ours() -> None:
    known = set()
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        known |= {option for parameter in command.params for option in parameter.opts}
    assert {ours for ours in words.OPTIONS.values() if ours.startswith("--")} <= known
    assert not set(words.OPTIONS) & known


def test_ps_and_serve_say_what_there_is() -> None:
    assert "nothing runs in the background" in invoke("ps").stderr and json.loads(invoke("ps", "--json").stdout) == []
    result = invoke("serve", "smollm2-135m")
    assert result.exit_code == 1 and "argosy web smollm2-135m" in result.stderr


def test_pull_says_where_models_come_from() -> None:
    result = invoke("pull", "llama3.2:1b")
    assert result.exit_code == 1 and "no registry" in result.stderr and "`llama3.2:1b`" in result.stderr


def test_kinds_in_other_spellings() -> None:
    for word in ("artefacts", "artifacts", "artefact", "Artifact", "model", "family", "scheme", "target"):
        assert invoke("list", word).exit_code == 0, word


def test_help_of_a_command() -> None:
    assert invoke("help", "chat").stdout.splitlines()[1:] == invoke("chat", "--help").stdout.splitlines()[1:]
    assert "Commands:" in invoke("help").stdout and invoke("help", "show").exit_code == 0
    assert invoke("help", "chatt").exit_code == 2
    assert invoke("-V").stdout == invoke("--version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script(shell: str) -> None:
    script = invoke("completion", shell).stdout
    assert "_ARGOSY_COMPLETE" in script and "argosy" in script
    assert invoke("completion", "tcsh").exit_code == 2


@pytest.mark.parametrize(
    ("line", "wanted"),
    [("argosy ch", "chat"), ("argosy chat sm", "smollm2-135m"), ("argosy chat --tem", "--temperature"),
     ("argosy build --target cpu,web", "cpu,webgpu"), ("argosy list arte", "artefacts"),
     ("argosy build -q q4", "q4f16_1")],
)  # fmt: skip
def test_a_shell_completes_words(line: str, wanted: str) -> None:
    environment = {
        **os.environ, "_ARGOSY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")),
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-m", "argosy"], env=environment, capture_output=True, text=True)
    assert f"plain,{wanted}" in done.stdout.splitlines(), done.stderr


def test_two_prompts_are_refused() -> None:
    with pytest.raises(UsageError, match="two prompts"):
        prompt_of("one", ("two",))


def test_bench_takes_json_with_and_without_a_file() -> None:
    for args in (["bench", "--json"], ["bench", "--json", "x.json"], ["bench"]):
        result = invoke(*args)
        assert result.exit_code == 2 and "a model is missing" in result.stderr


def test_doctor_has_bytes_as_numbers() -> None:
    checks = {check["name"]: check for check in json.loads(invoke("doctor", "--json").stdout)["checks"]}
    assert isinstance(checks["disk"]["bytes"], int)
