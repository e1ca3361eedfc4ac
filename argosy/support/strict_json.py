"""Parse JSON from strangers: one meaning for all readers, linear time, bounded memory.

Python's own parser keeps the last of two equal keys, accepts `NaN` and `Infinity`, turns `1e999` into infinity, lets
half a surrogate pair pass as a character, and nests as deeply as its stack. All of these are refused here, as are
documents whose values would need far more memory than their text.
"""

from __future__ import annotations

import json
import math
import re
import sys

from argosy.support.text import one_line

MEMORY = 128 << 20  # bytes that the values of a document may need; an index of 90000 tensors is taken to need 35 MB
TOKENIZER_MEMORY = 512 << 20  # one with 262144 tokens and 514906 merges is taken to need 350 MB
DEPTH = 64  # levels of lists and objects; a `tokenizer.json` has 8

# Upper bounds of what CPython allocates for a value, in bytes.
_LIST, _OBJECT, _ITEM, _STRING, _MEMBER = 88, 184, 40, 56, 176
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|u[dD]([89a-fA-F]..)|.)")


class JsonError(ValueError):
    """A document is not strict JSON. Its text follows the document's name in a message: "is not JSON: ..."."""


def parse_json(data: bytes | str, memory: int = MEMORY) -> object:
    """Parse a JSON document whose values need at most about `memory` bytes; raises JsonError."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if _needed(raw) > memory:
        raise JsonError(f"would need more than {memory >> 20} MiB of memory")
    try:
        text = raw.decode("utf-8")
        value = _DECODER.decode(text)
    except UnicodeDecodeError:
        raise JsonError("is not UTF-8 text") from None
    except RecursionError:
        raise JsonError("is nested too deeply") from None
    except JsonError:
        raise
    except json.JSONDecodeError as error:
        raise JsonError(f"is not JSON: {one_line(error, 120)}") from None
    except ValueError:  # Python's own limit
        raise JsonError(f"holds a number of more than {sys.get_int_max_str_digits()} digits") from None
    if _HALF.search(raw) and (half := next((m for m in _ESCAPE.finditer(text) if m[1]), None)):
        raise JsonError(f"holds `{one_line(half[0])}`, half of a character")
    _check_depth(value)
    return value


def _needed(raw: bytes) -> int:
    """Return an upper bound of the memory that the parsed document needs, its text included."""
    width = 1 if raw.isascii() else 4 if any(lead in raw for lead in _FOUR_BYTES) else 2
    quotes, members = raw.count(b'"'), raw.count(b":")
    containers = raw.count(b"[") * _LIST + raw.count(b"{") * _OBJECT
    return len(raw) * width + containers + raw.count(b",") * _ITEM + quotes // 2 * _STRING + members * _MEMBER


def _check_depth(value: object) -> None:
    """Refuse lists and objects below `DEPTH` others, which recursive code could not handle."""
    level = [value]
    for _ in range(DEPTH + 1):
        level = [
            item
            for parent in level
            if isinstance(parent, dict | list)
            for item in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise JsonError("is nested too deeply")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its members, none of which may occur twice."""
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonError(f"has the key `{one_line(key)}` twice")
            seen.add(key)
    return out


def _not_a_number(text: str) -> float:
    raise JsonError(f"holds `{text}`, which is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise JsonError(f"holds the number `{one_line(text)}`, which is too large")
    return value


_FOUR_BYTES = tuple(bytes([lead]) for lead in range(0xF0, 0xF5))  # begin a character beyond U+FFFF
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_not_a_number, parse_float=_finite)
