"""JSON is parsed strictly: what two readers would understand differently is refused, and what needs too much memory."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from argosy.support.strict_json import DEPTH, MEMORY, JsonError, parse_json


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "text",
        -1.5e300,
        10**400,
        {"a": {"a": [1, {"a": True}]}, "b": "\u0120\U0001f600 \\ud83d", "": ""},
    ],
    ids=str,
)
def test_sound_documents_mean_what_python_says(value: object) -> None:
    for escaped in (True, False):
        text = json.dumps(value, ensure_ascii=escaped)
        assert parse_json(text) == parse_json(text.encode()) == value


def test_a_document_as_deep_as_allowed() -> None:
    parse_json("[" * DEPTH + "1" + "]" * DEPTH)
    with pytest.raises(JsonError, match="nested too deeply"):
        parse_json("[" * (DEPTH + 2) + "]" * (DEPTH + 2))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not JSON"),
        ("{'a': 1}", "is not JSON"),
        ('{"a": 1} x', "is not JSON"),
        ('\ufeff{"a": 1}', "is not JSON"),
        ('{"a": [1, NaN]}', "holds `NaN`"),
        ('{"a": {"b": Infinity}}', "holds `Infinity`"),
        ("[-Infinity]", "holds `-Infinity`"),
        ('{"a": 1e999}', "holds the number `1e999`"),
        ("[-1.5E+400]", r"holds the number `-1\.5E\+400`"),
        ("9" * 5000, "more than 4300 digits"),
        ('{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "has the key `c` twice"),
        (r'["\ud83d"]', "half of a character"),
        (r'["\ude00\ud83d"]', "half of a character"),
        (r'{"\ud83d\ude00\uDE00": 1}', "half of a character"),
        (r'["\\\ud800"]', "half of a character"),
        ('["\ud800"]', "not UTF-8"),
        (b'["\xff"]', "not UTF-8"),
        (b'["\xed\xa0\x80"]', "not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 1000 + "1" + "}" * 1000, "nested too deeply"),
    ],
)
def test_other_documents_are_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(JsonError, match=problem) as caught:
        parse_json(text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


@pytest.mark.parametrize("text", [r'["\ud83d\ude00"]', r'["\\ud83d"]', r'["\\\\\ud83d\ude00\n"]'])
def test_whole_characters_may_be_escaped(text: str) -> None:
    assert parse_json(text) == json.loads(text)


def test_two_equal_keys_among_many_are_found_in_linear_time() -> None:
    text = "{" + ", ".join(f'"{i}": 0' for i in range(100_000)) + ', "99999": 0}'
    start = time.perf_counter()
    with pytest.raises(JsonError, match="`99999` twice"):
        parse_json(text)
    assert time.perf_counter() - start < 5  # it was minutes when each key was counted


FILLERS = {
    "lists": "[],",
    "objects": "{},",
    "members": '{"a":1},',
    "numbers": "1.5,",
    "texts": '"ab",',
    "rows": '{"dtype":"F32","shape":[0],"data_offsets":[0,0]},',
    "long rows": '{"a":1,"b":[],"c":"","d":{},"e":2.5,"f":null},',
}


@pytest.mark.parametrize("filler", FILLERS.values(), ids=FILLERS)
def test_memory_is_bounded_by_an_estimate_that_is_never_too_low(filler: str) -> None:
    text = ("[" + filler * 4_000 + "0]").encode()
    tracemalloc.start()
    try:
        assert isinstance(parse_json(text), list)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    parse_json(text, 6 * peak)
    with pytest.raises(JsonError, match="would need more than"):
        parse_json(text, peak)


def test_a_large_object_of_different_keys_is_estimated_too() -> None:
    text = "{" + ",".join(f'"{i}":1.5' for i in range(20_000)) + "}"
    tracemalloc.start()
    try:
        parse_json(text)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with pytest.raises(JsonError, match="would need more than"):
        parse_json(text, peak)


def test_a_document_that_needs_too_much_memory_is_refused_before_it_is_parsed() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(JsonError, match="would need more than 128 MiB of memory"):
            parse_json(b"[" + b"{}," * (MEMORY // 200) + b"0]")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_one_wide_character_makes_a_text_four_times_as_large() -> None:
    with pytest.raises(JsonError, match="would need more than"):
        parse_json(b'["' + b"a" * 1_000_000 + "\U0001f600".encode() + b'"]', 3_000_000)
