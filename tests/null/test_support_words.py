"""Texts for people: sizes, times, near misses, lines of hostile values, progress."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from argosy.support.layout import weights_layout
from argosy.support.progress import open_progress
from argosy.support.text import did_you_mean, human_size, human_time, one_line, shown_by


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (81_200_000, "81.2 MB"),
     (3 * 10**9, "3.0 GB"), (5 * 10**15, "5000.0 TB")],
)  # fmt: skip
def test_sizes(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 ms"), (0.0042, "4 ms"), (0.9996, "1.0 s"), (1.31, "1.3 s"), (59.96, "1 min 0 s"), (125, "2 min 5 s"),
     (3599.7, "1 h 0 min"), (7384, "2 h 3 min")],
)  # fmt: skip
def test_times(seconds: float, text: str) -> None:
    assert human_time(seconds) == text


def test_near_misses() -> None:
    assert did_you_mean("Q4F16", ["q4f16_1", "q0f32"]) == "did you mean `q4f16_1`?"
    assert did_you_mean("zzz", ["q4f16_1", "q0f32"]) == "one of: q4f16_1, q0f32"
    assert one_line("x" * 100, 20) == "x" * 17 + "..."


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class _HostileError(Exception):
    def __str__(self) -> str:
        raise RecursionError


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("gpt-9", "gpt-9"), ("", ""), (None, "None"), (7, "7"), (["a", 1], "['a', 1]"), (b"\x00a", r"b'\x00a'"),
        (Path("a/b"), "a/b"), (ValueError("first\n  second\tthird\n"), "first second third"),
        (KeyError("name"), "'name'"), (ValueError(), "ValueError"), (ValueError("\n "), "ValueError"),
        ("a\r\n b\x0b\x85\u2028c\u00a0", "a b c"), ("\x1b[2Jx\x07", r"\x1b[2Jx\x07"), ("\x9b1m", r"\x9b1m"),
        ("user\u202etxt.exe", r"user\u202etxt.exe"), ("\u2066a\u2069\u200b", r"\u2066a\u2069\u200b"),
        ("\udcff", r"\udcff"), ("\U000e0041", r"\U000e0041"), ("a`b", "a'b"), ("日本語 ünï", "日本語 ünï"),
        (10**5000, "<int>"), (_Hostile(), "<_Hostile>"), ([_Hostile()], "<list>"), (_HostileError(), "<_HostileError>"),
        ("x" * 60, "x" * 60), ("x" * 61, "x" * 57 + "..."), (" " * 10**6 + "x", "x"), ("x" * 10**7, "x" * 57 + "..."),
    ],
    ids=lambda value: None if isinstance(value, str) and len(value) < 100 else "",
)  # fmt: skip
def test_hostile_values_become_one_line(value: object, text: str) -> None:
    assert one_line(value) == text
    assert text.isprintable()


@pytest.mark.parametrize("length", [3, 4, 20, 200])
def test_a_line_is_as_long_as_allowed(length: int) -> None:
    assert len(one_line("\x1b" * 100, length)) <= length
    assert len(one_line("ab " * 100, length)) == length


def test_the_layout_ignores_order_and_sees_everything_else() -> None:
    rows = [("a", (2, 3), "float16"), ("b", (4,), "uint32")]
    same = weights_layout(rows)
    assert weights_layout(reversed(rows)) == same
    changes = [("a", (3, 2), "float16"), ("a", (2, 3), "float32"), ("c", (2, 3), "float16")]
    assert len({same, weights_layout(rows[:1])} | {weights_layout([change, rows[1]]) for change in changes}) == 5


def test_lines_say_one_thing_a_stage() -> None:
    out = io.StringIO()
    with open_progress(out=out) as progress:
        for done in range(4):
            progress.report("convert weights", done * 10**7, 3 * 10**7, "bytes")
        progress.report("compile", 1, 1)
        progress.report("count", 2, 0)
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert [row[:4] for row in rows] == [
        ["convert", "weights", "30.0", "MB"], ["compile", "1", "step", "0"], ["count", "2", "steps", "0"],
    ]  # fmt: skip


def test_a_stage_that_fails_is_not_called_done() -> None:
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), open_progress("lines", out) as progress:
        progress.report("convert weights", 1, 100)
        raise KeyboardInterrupt
    assert "stopped" in out.getvalue()


def test_bars_draw_and_off_is_silent() -> None:
    out = io.StringIO()
    with open_progress("bars", out) as progress:
        progress.report("convert weights", 5, 10)
        progress.report("compile", 1, 0)
    assert "convert weights" in out.getvalue() and "compile" in out.getvalue()
    assert out.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back
    out = io.StringIO()
    with open_progress("off", out) as progress:
        progress.report("convert weights", 5, 10)
    assert out.getvalue() == ""


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_no_control_characters() -> None:
    text = "a\x1b[31mb\x9b2J\x07\tc\r\nd\x7f日本"
    assert shown_by(Terminal(io.BytesIO(), "utf-8"), text) == "a\ufffd[31mb\ufffd2J\ufffd\tc\nd\ufffd日本"
    assert shown_by(io.TextIOWrapper(io.BytesIO(), "utf-8"), text) == text == shown_by(io.StringIO(), text)


def test_characters_that_an_encoding_lacks_are_replaced() -> None:
    for encoding, shown in (("ascii", "?a??"), ("latin-1", "\xe9a??"), ("utf-8", "\xe9a日?")):
        assert shown_by(io.TextIOWrapper(io.BytesIO(), encoding), "\xe9a日\ud800") == shown
    closed = io.TextIOWrapper(io.BytesIO(), "utf-8")
    closed.close()
    assert shown_by(closed, "a") == "a"
