"""Read files that may be malformed: every offset, size and count is checked against the file before it is used."""

from __future__ import annotations

import mmap
import os
import stat
import struct
import threading
from pathlib import Path
from types import TracebackType

import numpy as np

from argosy.support.errors import ArgosyError
from argosy.support.text import one_line

BUFFER = 1 << 18  # bytes a cursor reads ahead
AGAIN = "download or copy the file again"


class BoundedFile:
    """A regular file, open for reading.

    Reading goes through `seek` and `readinto` rather than a mapping, so a file that shrinks meanwhile is an error and
    not a crash. Every error is of type `error` and begins with the file's path; `hint` replaces the hints of all of
    them, and `missing` is what one says about a file that is not there.
    """

    def __init__(
        self, path: Path, error: type[ArgosyError], hint: str | None = None, missing: str = "does not exist"
    ) -> None:
        self.path = path
        self._error = error
        self._hint = hint
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would block forever
                raise self.wrong("is not a regular file", "check the path")
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - open as long as this object
            self.size = os.fstat(self._file.fileno()).st_size
        except FileNotFoundError:
            raise self.wrong(missing, "check the path") from None
        except (OSError, ValueError) as failure:
            raise self._unreadable(failure) from None
        self._lock = threading.Lock()

    def __enter__(self) -> BoundedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; maps of it stay valid."""
        self._file.close()

    @property
    def name(self) -> str:
        """The path as one printable line, for messages."""
        return path_line(self.path)

    def wrong(self, problem: str, hint: str = AGAIN) -> ArgosyError:
        """Make the error "`PATH` PROBLEM"."""
        return self._error(f"`{self.name}` {problem}", self._hint or hint)

    def truncated(self, offset: int, size: int) -> ArgosyError:
        """Make the error for `size` bytes at `offset` that the file does not have."""
        return self.wrong(f"is truncated: {size} bytes are needed at offset {offset}, it has {self.size}")

    def array(self, offset: int, size: int) -> np.ndarray:
        """Read `size` bytes at `offset` into a new uint8 array."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise self.truncated(offset, size)
        out = np.empty(size, np.uint8)
        view, done = out.data, 0
        try:
            with self._lock:
                self._file.seek(offset)
                while done < size:
                    count = self._file.readinto(view[done:])
                    if not count:
                        raise self.truncated(offset, size)
                    done += count
        except OSError as failure:
            raise self._unreadable(failure) from None
        return out

    def read(self, offset: int, size: int) -> bytes:
        """Read `size` bytes at `offset`."""
        return self.array(offset, size).tobytes()

    def read_all(self, limit: int) -> bytes:
        """Read the whole file, which must not be larger than `limit` bytes."""
        if self.size > limit:
            raise self.wrong(f"is larger than {limit >> 20} MiB", "check the file")
        return self.read(0, self.size)

    def map(self, size: int) -> mmap.mmap:
        """Map the whole file, which must have exactly `size` bytes; writing to the map never reaches the file."""
        if self.size != size:
            raise self.wrong(f"has {self.size} bytes instead of {size}")
        try:
            return mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_COPY)
        except (OSError, ValueError) as failure:  # ValueError: it shrank since it was opened
            raise self._unreadable(failure) from None

    def _unreadable(self, failure: OSError | ValueError) -> ArgosyError:
        reason = getattr(failure, "strerror", None) or failure
        return self.wrong(f"cannot be read: {one_line(reason)}", "check the file")


def path_line(path: Path) -> str:
    """Format a path for a message: one printable line, long enough for honest paths."""
    return one_line(path, 200)


class Cursor:
    """Reads little-endian values from the front of a file, at most `limit` bytes of it."""

    def __init__(self, file: BoundedFile, limit: int) -> None:
        self.file = file
        self.limit = limit
        self.at = 0
        self._buffer = b""
        self._start = 0  # where the buffer begins in the file

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size > BUFFER:  # a buffer would be a second copy
            self._check(size)
            self.at += size
            return self.file.read(self.at - size, size)
        first = self.at - self._start
        if first + size > len(self._buffer):
            self._fill(size)
            first = 0
        self.at += size
        return self._buffer[first : first + size]

    def _fill(self, size: int) -> None:
        """Buffer at least the next `size` bytes."""
        self._check(size)
        self._buffer = self.file.read(self.at, min(max(size, BUFFER), self.file.size - self.at))
        self._start = self.at

    def _check(self, size: int) -> None:
        """Check that the file and the limit allow the next `size` bytes."""
        if self.at + size > self.file.size:
            raise self.file.truncated(self.at, size)
        if self.at + size > self.limit:
            raise self.file.wrong(f"has a header of more than {self.limit} bytes")

    def integer(self, size: int) -> int:
        """Return the next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "little")

    def scalar(self, code: str) -> int | float | bool:
        """Return the next value of `struct` code `code`; any byte but 0 is True."""
        data = self.take(struct.calcsize("<" + code))
        return data != b"\0" if code == "?" else struct.unpack("<" + code, data)[0]

    def count(self, what: str, item_size: int) -> int:
        """Return the next 64-bit count of items of at least `item_size` bytes; `what` names it in errors."""
        value = self.integer(8)
        if value * item_size > self.file.size - self.at:
            raise self.file.wrong(f"claims {what} of `{value}`, more than its {self.file.size} bytes can hold")
        return value

    def text(self, what: str, limit: int) -> str:
        """Return the next string, a 64-bit length and at most `limit` bytes of UTF-8; `what` names it in errors."""
        length = self.integer(8)
        if length > limit:
            raise self.file.wrong(f"claims `{length}` bytes for {what}, more than the {limit} allowed")
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self.file.wrong(f"has {what} that is not UTF-8 text") from None

    def texts(self, count: int, what: str, limit: int) -> list[str]:
        """Return the next `count` strings, like `text`."""
        out: list[str] = []
        for _ in range(count):
            first = self.at - self._start + 8
            length = int.from_bytes(self._buffer[first - 8 : first], "little")
            whole = first + length <= len(self._buffer)
            raw = self._buffer[first : first + length] if whole else b""
            if whole and raw.isascii() and length <= limit:  # the usual case, four times as fast
                self.at += 8 + length
                out.append(raw.decode("ascii"))
            else:
                out.append(self.text(what, limit))
        return out
