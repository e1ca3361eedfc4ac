"""Failures of the command line: a sentence and a hint on stderr, nothing on stdout, a fixed exit code, no traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from argosy.cli import failures
from argosy.cli.app import cli
from argosy.support.errors import ArgosyError, UsageError


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("ARGOSY_") or name == "NO_COLOR"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def invoke(*args: str, **environment: str) -> Result:
    return CliRunner().invoke(cli, list(args), env=environment)


def one_sentence(result: Result, code: int) -> str:
    """Check the form of all output, and return the error line."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ") and not lines[0].endswith(".")
    assert all(line.startswith("hint: ") for line in lines[1:]) and len(lines) == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["biuld"], 2, ["`biuld`", "did you mean `build`?"]),
        (["xyzzy"], 2, ["`xyzzy`", "one of: build, chat"]),
        (["build"], 2, ["--model", "argosy build --help"]),
        (["build", "--modle", "x"], 2, ["`--modle`", "`--model`"]),
        (["build", "--model"], 2, ["--model", "argument"]),
        (["build", "-m", "x", "--rounding", "up"], 2, ["`up`", "full"]),
        (["build", "-m", "x", "--context-window", "many"], 2, ["`many`"]),
        (["build", "-m", "x", "--context-window", "0"], 2, ["0"]),
        (["build", "-m", "x", "--target", "gpu"], 2, ["`gpu`", "`cpu`"]),
        (["build", "-m", "x", "--quantization", "q4f61_1"], 2, ["`q4f61_1`", "`q4f16_1`"]),
        (["build", "-m", "smollm2-153m"], 1, ["`smollm2-153m`", "`smollm2-135m`"]),
        (["build", "-m", "./not/there"], 1, ["`./not/there`"]),
        (["build", "-m", ""], 1, ["``"]),
        (["build", "-m", "."], 1, ["config.json"]),
        (["convert", "-m", "./nothing.gguf"], 1, ["nothing.gguf"]),
        (["list", "modles"], 2, ["`modles`", "`models`"]),
        (["inspect", "nothing.so"], 1, ["`nothing.so`"]),
        (["inspect", "--diff", "."], 2, ["--diff"]),
        (["inspect", "--diff", ".", "."], 1, ["debug dump"]),
        (["inspect", "."], 1, ["`.`"]),
        (["build", "-m", "x", "extra"], 2, ["`extra`"]),
    ],
)
def test_a_mistake_is_one_sentence_with_a_way_out(args: list[str], code: int, words: list[str]) -> None:
    text = one_sentence(invoke(*args), code)
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ARGOSY_THREADS": "many"}, ["ARGOSY_THREADS", "`many`", "1 to 1024"]),
        ({"ARGOSY_TREADS": "2"}, ["`ARGOSY_TREADS`", "`ARGOSY_THREADS`"]),
    ],
)
def test_the_environment_is_checked(environment: dict[str, str], words: list[str]) -> None:
    text = one_sentence(invoke("list", "schemes", **environment), 2)
    assert all(word in text for word in words), text


def test_no_command_at_all_shows_the_help() -> None:
    result = invoke()
    assert result.exit_code == 0 and "Usage: " in result.stdout and result.stderr == ""


def raising(error: BaseException) -> int:
    def action() -> None:
        raise error

    return failures.guarded(action)


def test_an_error_of_ours_ends_with_its_own_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(UsageError("`x` is wrong", "take `y`")) == 2
    assert raising(ArgosyError("`x` is broken")) == 1
    assert capsys.readouterr().err == "error: `x` is wrong\nhint: take `y`\nerror: `x` is broken\n"


def test_ctrl_c_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == raising(click.Abort()) == 130
    assert capsys.readouterr().err == "stopped\nstopped\n"


def test_what_the_system_refuses_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(PermissionError(13, "Permission denied", "/root/x")) == 1
    assert capsys.readouterr().err.startswith("error: the system refused `/root/x`: permission denied\nhint: ")


def test_a_defect_is_one_sentence_and_its_traceback_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ZeroDivisionError("division by zero")) == 70
    text = capsys.readouterr().err
    assert "this is a defect in argosy: ZeroDivisionError: division by zero" in text and "Traceback" not in text
    found = re.search(r"the details are in (\S+\.log);", text)
    assert found
    log = Path(found[1])
    assert "Traceback" in log.read_text() and "ZeroDivisionError" in log.read_text()
    log.unlink()


def test_argosy_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_DEBUG", "1")
    assert raising(ZeroDivisionError("division by zero")) == 70
    assert raising(ArgosyError("`x` is broken")) == 1
    text = capsys.readouterr().err
    assert text.count("Traceback") == 2 and ".log" not in text


def test_out_of_memory_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(MemoryError()) == 1
    assert capsys.readouterr().err.startswith("error: out of memory\nhint: ")


def test_json_of_list_is_data_and_nothing_else() -> None:
    result = invoke("list", "schemes", "--json")
    assert result.exit_code == 0 and result.stderr == ""
    assert {"name": "q4f16_1", "summary": "4-bit groups of 32, 16-bit scales"} in json.loads(result.stdout)
    assert set(json.loads(invoke("list", "--json").stdout)) == {"models", "targets", "schemes", "families", "artefacts"}


def terminal(args: list[str], **environment: str) -> str:
    """Return what a command prints to a terminal."""
    import pty

    primary, secondary = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", **environment}
    command = [sys.executable, "-m", "argosy.cli", *args]
    process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=variables)
    os.close(secondary)
    text = b""
    try:
        while block := os.read(primary, 65536):
            text += block
    except OSError:  # how Linux reports that the other side is closed
        pass
    process.wait()
    os.close(primary)
    return text.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_colours_only_where_they_are_wanted() -> None:
    assert "\x1b[" in terminal(["list"])
    assert "\x1b[" in terminal(["biuld"])
    for args in (["--no-color", "list"], ["list", "--no-color"], ["--no-color", "biuld"]):
        assert "\x1b[" not in terminal(args), args
    assert "\x1b[" not in terminal(["list"], NO_COLOR="1")
    assert "\x1b[" not in terminal(["biuld"], ARGOSY_NO_COLOR="1")


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE on Windows")
def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m argosy.cli list | true; echo ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert result.stderr == "" and result.stdout.strip() in ("0", "1", "141")
