"""A text that repeats itself is noticed, and one that only looks alike is not."""

from __future__ import annotations

import time

import numpy as np
import pytest

from argosy.runtime_bindings.chat.loops import LoopDetector

POEM = (
    "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate:\n"
    "Rough winds do shake the darling buds of May,\nAnd summer's lease hath all too short a date.\n"
)
VERSES = "".join(
    f"{line} And {word} again, said {word}.\n" for line in POEM.split("\n") for word in ("she", "he", "it")
)
SENTENCE = "The capital of France is Paris, and it is known for the Eiffel Tower. "
ITEM = "Use a good pair of shoes that fit you well and are easy to clean.\n"


def looks_at(text: str, step: int = 3) -> int | None:
    """Return how many characters were read before a loop was seen."""
    detector = LoopDetector()
    for end in range(step, len(text) + step, step):
        if detector.add(text[end - step : end]):
            return end
    return None


@pytest.mark.parametrize(
    ("start", "passage", "at_most"),
    [
        (POEM, SENTENCE, 7), (POEM, "the the ", 90), (POEM, "ha", 320), ("", "\n", 650), (POEM, "- ", 330),
        (POEM, POEM, 5), (POEM, VERSES, 5), (POEM, "no. I am not sure. ", 40), ("", "日本語の文です。", 90),
        ("x", "🙂", 650),
    ],
)  # fmt: skip
def test_a_loop_is_seen_after_a_few_turns(start: str, passage: str, at_most: int) -> None:
    seen = looks_at(start + passage * (at_most + 300))
    assert seen is not None and len(start) + 2 * len(passage) < seen <= len(start) + at_most * len(passage)


@pytest.mark.parametrize("step", [1, 7, 100, 5000])
def test_the_pieces_do_not_matter(step: int) -> None:
    assert looks_at(POEM + SENTENCE * 90, step) is not None


def test_entries_of_a_list_that_differ_in_their_numbers_only_are_a_loop() -> None:
    assert looks_at("".join(f"{number}. {ITEM}" for number in range(1, 40))) is not None


@pytest.mark.parametrize(
    "text",
    [
        POEM * 2 + SENTENCE, SENTENCE * 3 + POEM, "=" * 300 + "\n", "ha " * 60 + "\n" + POEM,
        "".join(f"{n} x 7 = {7 * n}\n" for n in range(200)), ", ".join(map(str, range(900))),
        "".join(f"| {n} | {n * n} | {n ** 3} |\n" for n in range(90)), "| --- " * 40 + "|\n" + POEM,
        "".join(f"{n}. {word} is a colour that is used a lot.\n" for n, word in enumerate(POEM.split())),
        "".join(f"    value_{n} = table[{n}]\n" for n in range(30)),
    ],
)  # fmt: skip
def test_what_is_no_loop(text: str) -> None:
    assert looks_at(text) is None


def test_a_text_once_found_stays_found_and_is_named() -> None:
    detector = LoopDetector()
    assert detector.add(SENTENCE * 10)
    assert detector.found is not None and sorted(detector.found) == sorted(SENTENCE)
    assert detector.add(POEM)


def test_watching_a_long_answer_costs_little() -> None:
    detector = LoopDetector()
    words = np.random.default_rng(3).choice((POEM + SENTENCE + ITEM).split(), 3000)
    text = " ".join(words)
    started = time.process_time()
    for place in range(0, len(text), 5):
        detector.add(text[place : place + 5])
    assert detector.found is None
    assert (time.process_time() - started) / (len(text) / 5) < 0.001  # seconds a token
