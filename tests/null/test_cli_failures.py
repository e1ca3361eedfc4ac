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


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `argosy` is this tree's program."""
    program = f"argosy() {{ {sys.executable} -m argosy \"$@\"; }}\n"
    variables = {**os.environ, **environment}
    return subprocess.run(["bash", "-c", program + line], capture_output=True, env=variables)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE on Windows")
def test_a_reader_that_goes_away_is_no_error() -> None:
    gone = "| true; echo ${PIPESTATUS[0]}"
    result = shell(f"argosy list schemes {gone}; argosy biuld 2>&1 {gone}")
    assert result.stderr == b""
    assert result.stdout.split() in ([b"141", b"141"], [b"0", b"141"], [b"141", b"2"], [b"0", b"2"])


@pytest.mark.skipif(sys.platform == "win32", reason="no /dev/full on Windows")
def test_streams_that_are_closed_or_full_end_nothing_with_a_traceback() -> None:
    listed = "argosy list models"
    result = shell(f"{listed} >&-; echo $?; {listed} 2>&- <&- | wc -l; {listed} >/dev/full; echo $?")
    assert result.stdout.split() == [b"0", b"2", b"1"]
    assert result.stderr.decode().splitlines()[0] == "error: the system refused: no space left on device"
    assert shell("argosy biuld 2>/dev/full").returncode == 1


def test_characters_that_a_stream_lacks_are_replaced() -> None:
    result = shell("argosy chat 'é日本'; argosy list kinds-é", PYTHONIOENCODING="ascii", ARGOSY_DIST="built")
    lines = result.stderr.decode("ascii").splitlines()
    assert lines[0] == r"error: no artefact `\xe9\u65e5\u672c` in `built`" and r"`kinds-\xe9`" in lines[2]


def test_json_stays_json_where_a_stream_lacks_characters(tmp_path: Path) -> None:
    (tmp_path / "é日本" / "x").mkdir(parents=True)
    (tmp_path / "é日本" / "x" / "argosy-manifest.json").touch()
    for encoding in ("ascii", "latin-1", "utf-8"):
        result = shell("argosy list artefacts --json", PYTHONIOENCODING=encoding, ARGOSY_DIST="é日本")
        assert json.loads(result.stdout.decode(encoding))[0]["directory"].endswith("/é日本/x")


HOSTILE = "a\x1b[31mb\x9b2Jc\u202ed\x07\r"


def test_no_escape_sequence_reaches_stderr() -> None:
    result = invoke("chat", f"{HOSTILE}\nhint: x", ARGOSY_DIST=f"no{HOSTILE}")
    text = one_sentence(result, 1)
    assert not set(text) & set("\x1b\x9b\u202e\x07\r") and "\\x1b[31m" in text


def test_a_defect_with_escape_sequences_is_shown_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ZeroDivisionError(HOSTILE)) == 70
    text = capsys.readouterr().err
    assert "\x1b" not in text
    Path(re.search(r"(/\S+\.log);", text)[1]).unlink()  # type: ignore[index]


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_no_escape_sequence_of_a_manifest_reaches_a_terminal(tmp_path: Path) -> None:
    from argosy.dist.manifest import Manifest, write_manifest

    (tmp_path / "built" / "x").mkdir(parents=True)
    write_manifest(tmp_path / "built" / "x", Manifest(HOSTILE, HOSTILE, "0" * 64))
    listed = ["list", "artefacts"]
    for args in (listed, [*listed, "--json"], ["inspect", "x"], ["chat", "x", "-p", "hi"]):
        text = terminal(args, ARGOSY_DIST="built", NO_COLOR="1").replace("\r\n", "\n")
        assert not set(text) & set("\x1b\x9b\u202e\x07\r"), args


def test_the_program_is_a_module_too() -> None:
    assert shell("argosy --version").stdout.startswith(b"argosy ")
