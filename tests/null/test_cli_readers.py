"""Lines that are typed are kept for the next conversation, and a line shows while something takes long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from argosy.cli.waiting import WaitingLine, waiting

CHILD = """
from argosy.cli.readers import terminal_reader
with terminal_reader() as read:
    try:
        while (line := read("> ")) != "end":
            print("got", repr(line))
            if line == "private":
                read.history.kept = False
    except EOFError:
        pass
"""


def type_lines(home: Path, *lines: bytes) -> str:
    """Type lines at a terminal, one as soon as there is a prompt for it, and return what it shows."""
    import pty

    primary, secondary = pty.openpty()
    environment = {**os.environ, "ARGOSY_HOME": str(home), "TERM": "xterm"}
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, env=environment)
    os.close(secondary)
    shown, pending = b"", list(lines)
    try:
        while block := os.read(primary, 65536):
            shown += block
            if pending and shown.count(b"> ") > len(lines) - len(pending):
                os.write(primary, pending.pop(0))
    except OSError:  # how Linux reports that the other side is closed
        pass
    child.wait(timeout=30)
    os.close(primary)
    return shown.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_what_is_typed_is_kept_for_the_next_time(tmp_path: Path) -> None:
    pytest.importorskip("readline")
    home = tmp_path / "home"
    assert "got 'first'" in type_lines(home, b"first\n", b"first\n", b"private\n", b"secret\n", b"end\n")
    history = home / "history"
    assert history.stat().st_mode & 0o077 == 0 and home.stat().st_mode & 0o077 == 0
    lines = history.read_text().splitlines()
    assert lines[-2:] == ["first", "private"] and lines.count("first") == 1
    assert "got 'private'" in type_lines(home, b"\x1b[A\n", b"end\n")  # the arrow up


def test_a_line_shows_while_something_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("argosy.cli.console.erases", lambda stream: True)
    with waiting("loading a\x1b[2Jb", after=0.01):
        time.sleep(0.3)
    text = capsys.readouterr().err
    assert "loading a\\x1b[2Jb" in text and text.endswith("\r\x1b[K") and "\x1b[2J" not in text
    with waiting("loading", after=5):
        pass
    assert capsys.readouterr().err == ""


def test_no_line_shows_where_it_could_not_be_erased(capsys: pytest.CaptureFixture[str]) -> None:
    line = WaitingLine(lambda: "reading", 0.0)
    time.sleep(0.05)
    line.end()
    assert capsys.readouterr().err == ""
