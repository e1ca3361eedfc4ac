"""Read compiled libraries as data: their metadata without loading them, and a private copy that was verified."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from argosy.dist.manifest import FileRecord
from argosy.support import env
from argosy.support.bounded_file import BoundedFile, path_line
from argosy.support.errors import ArtefactError
from argosy.support.text import one_line

MAX_LIBRARY_BYTES = 1 << 30
_MAX_METADATA_BYTES = 16 << 20
_BLOCK = 1 << 20
# `_metadata` returns this text from the constants of the library, where it lies as it is. ASCII only: `json.dumps`
# escapes everything else.
_METADATA = re.compile(rb'\{"abi": \d{1,9}, "argosy_version": "[\x20-\x7e]*')
_REBUILD = "build it again with `argosy build`"


def library_metadata(path: Path) -> dict[str, object]:
    """Return the metadata of the library at `path`, whatever machine it is for. None of its code runs.

    Raises ArtefactError for a file that is not a library built by Argosy.
    """
    with BoundedFile(path, ArtefactError) as file:
        data = file.read_all(MAX_LIBRARY_BYTES)
    found = _METADATA.findall(data)
    if len(found) != 1 or len(found[0]) > _MAX_METADATA_BYTES:
        raise ArtefactError(f"`{path_line(path)}` is not a library that Argosy has built", _REBUILD)
    try:
        metadata, _ = json.JSONDecoder().raw_decode(found[0].decode("ascii"))
    except (ValueError, RecursionError) as error:
        sentence = f"`{path_line(path)}` is malformed: its metadata is not JSON ({one_line(error, 80)})"
        raise ArtefactError(sentence, _REBUILD) from None
    assert isinstance(metadata, dict), "the text begins with a brace"
    return metadata


@contextlib.contextmanager
def verified_copy(path: Path, record: FileRecord, hint: str | None = None) -> Iterator[Path]:
    """Yield a copy of the library at `path`, in a directory that only this user can enter; it is removed afterwards.

    The file is opened once, and the bytes that are compared with `record` are those that were copied: a file that is
    exchanged or written to meanwhile cannot be what is loaded. Raises ArtefactError if it is not the recorded one.
    """
    with BoundedFile(path, ArtefactError, hint, missing="is missing") as file:
        if file.size != record.bytes:
            raise file.wrong(f"has {file.size} bytes instead of {record.bytes}")
        with contextlib.ExitStack() as stack:
            try:
                # A loaded library cannot be removed on Windows; what is left goes when the system cleans up.
                private = tempfile.TemporaryDirectory(
                    prefix="argosy-", dir=_executable_directory(), ignore_cleanup_errors=True
                )
                copy = Path(stack.enter_context(private)) / path.name
                digest = _copy(file, copy)
            except OSError as error:
                sentence = f"`{file.name}` cannot be copied before it is loaded: {one_line(error.strerror or error)}"
                raise ArtefactError(sentence, "set TMPDIR to a directory with room, without `noexec`") from None
            if digest != record.sha256:
                raise file.wrong("was altered: its SHA-256 is not the recorded one")
            yield copy


def _copy(file: BoundedFile, copy: Path) -> str:
    """Copy `file` to `copy` and return the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o700)
    with open(descriptor, "wb") as out:
        for start in range(0, file.size, _BLOCK):
            block = file.read(start, min(_BLOCK, file.size - start))
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _executable_directory() -> str | None:
    """Return a directory for temporary files from which code may be loaded; None is the system's own."""
    for place in (Path(tempfile.gettempdir()), *_cache_directories()):
        with contextlib.suppress(OSError, AttributeError):  # Windows has no statvfs, and needs none
            if os.statvfs(place).f_flag & os.ST_NOEXEC:
                continue
            return str(place)
    return None


def _cache_directories() -> Iterator[Path]:
    configured = env.CACHE.get()
    if configured is not None:
        yield configured
    yield Path.home() / ".cache"
    yield Path.home()
