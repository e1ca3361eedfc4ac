"""Check the map of characters in a `Precompiled` normalizer, which sentencepiece compiles from its rules.

It is base64 of: the length of a trie in bytes, the trie as a double array of 32-bit units (the layout of darts-clone),
and the texts that replace others, each ended by a zero byte. A key leads from unit 0 to a unit with the place of its
text.
"""

from __future__ import annotations

import base64
import binascii
from array import array
from collections import defaultdict

LIMIT = 4 << 20  # bytes; the usual map has 0.24 MB
UNITS = 1 << 20


class CharsmapError(ValueError):
    """The map is damaged, or not of a size that a model needs. Its text follows "a map that" in a message."""


def largest_growth(text: object) -> float:
    """Return how many times the bytes of what it replaces a text of the map has at most. Raises CharsmapError."""
    if not isinstance(text, str) or len(text) > LIMIT:
        raise CharsmapError(f"is no text of at most {LIMIT} characters")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise CharsmapError("is not base64") from None
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size % 4 or not 0 < size <= len(data) - 4 or size > 4 * UNITS:
        raise CharsmapError("has no trie")
    units = array("I", data[4 : 4 + size])
    return _growth(units, data[4 + size :])


def _growth(units: array[int], texts: bytes) -> float:
    """Walk the trie by levels, from the shortest key to a unit; the bytes of a key are its depth."""
    if units.itemsize != 4:  # pragma: no cover
        raise CharsmapError("cannot be read on this machine")
    children: dict[int, list[int]] = defaultdict(list)  # by the unit number without the label
    for number, unit in enumerate(units):
        if 0 < (label := unit & 0x800000FF) < 256:
            children[number ^ label].append(number)
    worst, level, depth, seen = 1.0, [0], 0, {0}
    while level:
        following: set[int] = set()
        for number in level:
            unit = units[number]
            base = number ^ ((unit >> 10) << ((unit & (1 << 9)) >> 6))
            if base | 0xFF >= len(units):
                raise CharsmapError("has a trie with a place outside of it")
            if unit & (1 << 8):
                worst = max(worst, _text_size(texts, units[base]) / max(1, depth))
            following.update(children[base])
        level, depth = list(following - seen), depth + 1
        seen |= following
    return worst


def _text_size(texts: bytes, unit: int) -> int:
    """Return the bytes of the text at the place that a unit names."""
    place = unit & 0x7FFFFFFF
    end = texts.find(b"\0", place) if place < len(texts) else -1
    if end < 0:
        raise CharsmapError("names a text that it does not have")
    try:
        texts[place:end].decode()
    except UnicodeDecodeError:
        raise CharsmapError("names a text that begins or ends inside a character") from None
    return end - place
