"""A bounded file returns what it holds, and refuses every read beyond it with the error it was given."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from argosy.support.bounded_file import BUFFER, BoundedFile, Cursor
from argosy.support.errors import ArtefactError, CheckpointError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "data.bin").write_bytes(bytes(range(100)))
    return tmp_path / "data.bin"


def test_reads_and_maps(path: Path) -> None:
    with BoundedFile(path, CheckpointError) as file:
        assert file.size == 100
        assert file.read(10, 3) == b"\n\x0b\x0c"
        assert file.array(98, 2).tolist() == [98, 99]
        assert file.read(100, 0) == b"" and file.read_all(100) == bytes(range(100))
        view = file.map(100)
    view[0:1] = b"x"  # the map outlives the file, and is a private copy
    assert view[:2] == b"x\x01" and path.read_bytes()[0] == 0


@pytest.mark.parametrize(("offset", "size"), [(0, 101), (100, 1), (-1, 1), (0, -1), (1 << 62, 1 << 62)])
def test_nothing_is_read_beyond_the_end(path: Path, offset: int, size: int) -> None:
    file = BoundedFile(path, CheckpointError)
    with pytest.raises(CheckpointError, match=r"data\.bin` is truncated: .* it has 100") as caught:
        file.read(offset, size)
    assert caught.value.hint


def test_a_file_that_shrinks_is_an_error(path: Path) -> None:
    file = BoundedFile(path, CheckpointError)
    os.truncate(path, 50)
    with pytest.raises(CheckpointError, match="is truncated"):
        file.read(40, 20)
    with pytest.raises(CheckpointError, match="cannot be read"):
        file.map(100)


def test_errors_are_of_the_given_class_and_hint(path: Path) -> None:
    with pytest.raises(ArtefactError, match="has 100 bytes instead of 99") as caught:
        BoundedFile(path, ArtefactError, "argosy build").map(99)
    assert caught.value.hint == "argosy build"
    with pytest.raises(ArtefactError, match="is larger than 0 MiB"):
        BoundedFile(path, ArtefactError).read_all(99)
    with pytest.raises(ArtefactError, match=r"none` is missing"):
        BoundedFile(path.parent / "none", ArtefactError, missing="is missing")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        BoundedFile(path.parent, CheckpointError)
    os.mkfifo(path.parent / "pipe")
    with pytest.raises(CheckpointError, match="is not a regular file"):
        BoundedFile(path.parent / "pipe", CheckpointError)
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        BoundedFile(Path("a\0\nb"), CheckpointError)
    assert caught.value.message.isprintable()


def cursor(path: Path, data: bytes, limit: int = 1 << 20) -> Cursor:
    path.write_bytes(data)
    return Cursor(BoundedFile(path, CheckpointError), limit)


def test_a_cursor_reads_values_in_order(path: Path) -> None:
    text = "größe".encode()
    data = struct.pack("<IQ", 7, len(text)) + text + struct.pack("<fB?Q", 0.5, 255, True, 3) + b"abc" + bytes(BUFFER)
    at = cursor(path, data)
    assert (at.integer(4), at.text("a key", 100)) == (7, "größe")
    assert (at.scalar("f"), at.scalar("B"), at.scalar("?")) == (0.5, 255, True)
    assert at.take(at.count("letters", 1)) == b"abc" and at.at == len(data) - BUFFER
    assert at.take(BUFFER) == bytes(BUFFER)


def test_a_cursor_refuses_lengths_the_file_cannot_hold(path: Path) -> None:
    huge = struct.pack("<Q", 1 << 60)
    with pytest.raises(CheckpointError, match="claims a number of tensors of `1152921504606846976`"):
        cursor(path, huge).count("a number of tensors", 24)
    with pytest.raises(CheckpointError, match="for a key, more than the 9 allowed"):
        cursor(path, huge).text("a key", 9)
    with pytest.raises(CheckpointError, match="is truncated"):
        cursor(path, struct.pack("<Q", 5) + b"abc").text("a key", 9)
    with pytest.raises(CheckpointError, match="a key that is not UTF-8"):
        cursor(path, struct.pack("<Q", 1) + b"\xff").text("a key", 9)
    with pytest.raises(CheckpointError, match="a header of more than 4 bytes"):
        cursor(path, bytes(8), limit=4).take(5)
