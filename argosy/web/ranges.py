"""A `Range` header and a file's size go in, the first byte and the count of bytes to send come out (RFC 9110, 14.2)."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range begins behind the end of the file: status 416."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """(first byte, count) of the one range that is asked for; None where the whole file is to be sent.

    A header that is malformed, or names several ranges, is to be ignored or may be. Raises Unsatisfiable.
    """
    found = _ONE_RANGE.fullmatch(header) if header and len(header) < 100 else None
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":  # the last so many bytes
        count = min(int(found[2]), size)
        if count == 0:
            raise Unsatisfiable
        return size - count, count
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if found[2] and int(found[2]) < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, last - first + 1
