"""Parse `Range` headers (RFC 9110, 14.2)."""

from __future__ import annotations

import re

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.ASCII | re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range begins past the end of the file: status 416."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return (first byte, count) of the requested range, or None for the whole file.

    A malformed header must be ignored, and one with several ranges may be. Raises Unsatisfiable.
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
