"""Libraries are described without running them, and what is loaded is what was verified."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from argosy.dist import library_file
from argosy.dist.library_file import library_metadata, verified_copy
from argosy.dist.manifest import FileRecord
from argosy.support.errors import ArtefactError

METADATA = {"abi": 1, "argosy_version": "0.1.0", "model_type": "llama", "note": "caf\u00e9 \U0001f600", "params": []}
RECORDED, OTHER = b"\x7fELF" + bytes(range(256)) * 9000, b"\x7fELF" + bytes(reversed(range(256))) * 9000


def record(data: bytes) -> FileRecord:
    return FileRecord(hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("suffix", [".so", ".dylib", ".dll", ".wasm"])
def test_metadata_are_read_as_data(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\x7fELF\0\0" + json.dumps(METADATA).encode() + b"\x05\0\0after")
    assert library_metadata(path) == METADATA


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a library"),
        (b"\x7fELF nothing of ours", "not a library"),
        (json.dumps(METADATA).encode() * 2, None),  # only the first value counts: the second is not separate text
        (json.dumps(METADATA).encode() + b"\0" + json.dumps(METADATA).encode(), "not a library"),
        (json.dumps(METADATA).encode()[:-5], "metadata is not JSON"),
        (b'{"abi": 1, "argosy_version": "' + b'[{"a":' * 100_000, "metadata is not JSON"),
        (b'{"abi": 1, "argosy_version": "", "x": ' + b"[" * 200_000, "metadata is not JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, words: str | None) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(data)
    if words is None:
        assert library_metadata(path) == METADATA
        return
    with pytest.raises(ArtefactError, match=words) as caught:
        library_metadata(path)
    assert "\n" not in caught.value.message and caught.value.hint


def test_the_copy_is_private_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(RECORDED)
    with verified_copy(path, record(RECORDED)) as copy:
        assert copy.name == path.name and copy.read_bytes() == RECORDED
        assert stat.S_IMODE(copy.parent.stat().st_mode) == 0o700
        path.write_bytes(OTHER)  # too late: the copy is its own file
        assert copy.read_bytes() == RECORDED
    assert not copy.parent.exists()


@pytest.mark.parametrize(
    ("data", "words"), [(OTHER, "was altered"), (RECORDED[:-1], "instead of"), (None, "is missing")]
)
def test_another_file_is_refused(tmp_path: Path, data: bytes | None, words: str) -> None:
    path = tmp_path / "model.so"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ArtefactError, match=words) as caught, verified_copy(path, record(RECORDED), "build again"):
        raise AssertionError("it was let through")
    assert caught.value.hint == "build again"


def test_a_file_exchanged_while_it_is_read_is_never_loaded(tmp_path: Path) -> None:
    """One thread exchanges the library, by rename and in place, as fast as it can; 200 loads see the recorded bytes."""
    path, done = tmp_path / "model.so", threading.Event()
    path.write_bytes(RECORDED)

    def exchange() -> None:
        turn = 0
        while not done.is_set():
            data = (OTHER, RECORDED)[turn % 2]
            if turn % 4 < 2:
                (tmp_path / "next").write_bytes(data)
                os.replace(tmp_path / "next", path)
            else:
                with open(path, "r+b") as file:
                    file.write(data)
            turn += 1

    thread = threading.Thread(target=exchange)
    thread.start()
    loaded = refused = 0
    try:
        while loaded + refused < 200:
            try:
                with verified_copy(path, record(RECORDED)) as copy:
                    assert copy.read_bytes() == RECORDED
                    loaded += 1
            except ArtefactError:
                refused += 1
    finally:
        done.set()
        thread.join()
    assert refused, "the exchange was never noticed, so nothing was tested"


def test_the_copy_avoids_places_that_refuse_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Flags:
        def __init__(self, place: object) -> None:
            self.f_flag = 0 if str(place) == str(tmp_path) else os.ST_NOEXEC

    monkeypatch.setattr(os, "statvfs", Flags)
    monkeypatch.setenv("ARGOSY_CACHE", str(tmp_path))
    assert library_file._executable_directory() == str(tmp_path)
