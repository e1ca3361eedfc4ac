"""Lines are broken between words, whatever the pieces in which a text arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from argosy.cli.wrap import WordWrap


def wrapped(text: str, width: int, step: int = 1) -> str:
    wrap = WordWrap(lambda: width)
    pieces = [text[start : start + step] for start in range(0, len(text), step)]
    return "".join(map(wrap.add, pieces)) + wrap.finish()


def test_no_word_is_cut() -> None:
    text = "The quick brown fox jumps over the lazy dog."
    assert wrapped(text, 20) == "The quick brown fox\njumps over the lazy\ndog."
    assert wrapped(text, 20, step=7) == wrapped(text, 20, step=1000) == wrapped(text, 20)


def test_words_longer_than_a_line_are_left_to_the_terminal() -> None:
    assert wrapped("see https://example.org/a/very/long/address now", 20).count("\n") <= 2
    assert "https://example.org/a/very/long/address" in wrapped("see https://example.org/a/very/long/address", 20)


def test_indentation_and_blank_lines_stay() -> None:
    text = "- one\n\n    two  three\n\tfour"
    assert wrapped(text, 40) == text


def test_code_is_not_broken() -> None:
    code = "```python\nx = some_function(with_many, arguments, in_one_line)\n```\n"
    assert wrapped(code + "and then words that are too long", 20).startswith(code)
    assert "\n" in wrapped(code + "and then words that are too long", 20)[len(code) :]


def test_wide_characters_take_two_columns_and_may_be_parted() -> None:
    lines = wrapped("日本語の文章はどこでも改行できます" * 2, 21).split("\n")
    assert len(lines) > 1 and all(cell_len(line) <= 21 for line in lines)
    assert wrapped("ab 日本 cd", 40) == "ab 日本 cd"


def test_a_family_of_emoji_stays_together() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert family in wrapped("x " * 9 + family + " and so on", 20)


def test_a_terminal_that_is_made_wider_is_used() -> None:
    width = 20
    wrap = WordWrap(lambda: width)
    first = wrap.add("one two three four five six\n")
    width = 80
    assert first.count("\n") == 2 and wrap.add("one two three four five six\n") == "one two three four five six\n"


@pytest.mark.parametrize("width", [0, 5])
def test_without_a_width_nothing_is_broken(width: int) -> None:
    text = "one two three four five six seven"
    assert wrapped(text, width) == text


TEXTS = st.text(alphabet=st.sampled_from("ab日\U0001f600 \n\t`-é\u0301"), max_size=120)


@given(TEXTS, st.integers(20, 30), st.integers(1, 9))
def test_only_spaces_before_a_break_are_lost(text: str, width: int, step: int) -> None:
    out = wrapped(text, width, step)
    squeezed = "".join(text.split())
    assert "".join(out.split()) == squeezed
    assert out.count("\n") >= text.count("\n")
