"""Load a `tokenizer.json` from a stranger, and call the `tokenizers` library without tracebacks.

A file is checked (`argosy.support.tokenizer_rules`) before the library sees it: the library takes hours, all memory or
the process itself for some files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from argosy.support.errors import ArgosyError
from argosy.support.strict_json import TOKENIZER_MEMORY, JsonError, parse_json
from argosy.support.text import one_line
from argosy.support.tokenizer_rules import TokenizerRefused, check_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIZE = 128 << 20  # bytes; the largest files in use have 35 MB
# Bytes that the values of a file may need: at least, and for each of its bytes. Compact files of models need 20.
SMALLEST_MEMORY = 160 << 20
MEMORY_PER_BYTE = 32

# How many of the bytes `:` and `[` a file may hold. The largest in use has 262144 tokens and 514906 merges, as lists.
MEMBERS = 700_000
LISTS = 900_000

Refusal = Callable[[str], ArgosyError]  # makes the error from what is wrong with "the file"


def parse_tokenizer(data: bytes, refuse: Refusal) -> dict[str, object]:
    """Parse and check a `tokenizer.json`. Raises `refuse(problem)`."""
    if len(data) > SIZE:
        raise refuse(f"has {len(data)} bytes, more than any tokenizer")
    if data.count(b":") > MEMBERS or data.count(b"[") > LISTS:
        raise refuse("has more tokens or merges than any tokenizer")
    memory = min(TOKENIZER_MEMORY, max(SMALLEST_MEMORY, MEMORY_PER_BYTE * len(data)))
    try:
        tokenizer = parse_json(data, memory)
    except JsonError as problem:
        raise refuse(str(problem)) from None
    if not isinstance(tokenizer, dict):
        raise refuse(f"holds a {type(tokenizer).__name__}, not an object")
    _check(tokenizer, refuse)
    return tokenizer


def load_tokenizer_json(data: bytes, refuse: Refusal) -> Tokenizer:
    """Load a `tokenizer.json`, without the truncation and the padding that it may hold. Raises `refuse(problem)`."""
    values = parse_tokenizer(data, refuse)
    if any(values.get(key) is not None for key in ("truncation", "padding")):
        data = json.dumps({**values, "truncation": None, "padding": None}, ensure_ascii=False).encode()
    return _loaded(data, refuse)


def load_parsed(values: Mapping[str, object], data: bytes, refuse: Refusal) -> Tokenizer:
    """Load a tokenizer without truncation and padding that is parsed already."""
    _check(values, refuse)
    return _loaded(data, refuse)


def _check(values: Mapping[str, object], refuse: Refusal) -> None:
    try:
        check_tokenizer(values)
    except TokenizerRefused as problem:
        raise refuse(f"is not accepted as a tokenizer: it {problem}") from None


def _loaded(data: bytes, refuse: Refusal) -> Tokenizer:
    from tokenizers import Tokenizer

    with library_errors(lambda reason: refuse(f"is not a working tokenizer: {reason}")):
        return Tokenizer.from_str(data.decode())


@contextmanager
def library_errors(refuse: Refusal) -> Iterator[None]:
    """Turn what the library raises into `refuse(reason)`.

    It raises bare exceptions, and for a panic of its Rust code a PanicException, which is a BaseException.
    """
    try:
        yield
    except ArgosyError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise refuse(one_line(str(error).split("\n")[0] or type(error).__name__, 160)) from None
