"""Write files atomically, lock directories, compute digests, and report full disks.

A file is written under a temporary name that starts with `TEMP_MARK`, flushed to disk, then renamed. So no reader sees
half a file, and the next build recognises what a killed one left behind (`remove_leftovers`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from argosy.support.errors import ArgosyError
from argosy.support.text import human_size

TEMP_MARK = ".argosy-tmp-"
LOCK_NAME = ".argosy.lock"
_counter = itertools.count()


def temp_path(final: Path) -> Path:
    """Return an unused name beside `final`, with its suffix, that `remove_leftovers` recognises."""
    return final.with_name(f"{TEMP_MARK}{os.getpid()}-{next(_counter)}-{final.name}")


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems do not support it
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def publish(temporary: Path, final: Path) -> None:
    """Flush `temporary` to the disk and rename it to `final`."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, final)
    sync_directory(final.parent)


@contextlib.contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside `final`, which is renamed to `final` if the block succeeds, and removed otherwise.

    Raises ArgosyError if the disk is full, or if the block did not write the file.
    """
    temporary = temp_path(final)
    try:
        with disk_space_guard(final):
            yield temporary
            if not temporary.is_file():
                raise ArgosyError(f"`{final}` was not written")
            publish(temporary, final)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path`; on failure `path` is unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json_atomic(path: Path, value: object) -> None:
    """Write `value` as indented JSON to `path`; on failure `path` is unchanged."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes_atomic(path, (text + "\n").encode())


def sha256_file(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, reading it in blocks."""
    digest = hashlib.sha256()
    block = memoryview(bytearray(1 << 20))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()


def free_space(path: Path) -> int:
    """Return the free bytes on the disk of `path`, which need not exist yet."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _full_disk_error(path: Path, needed: int | None) -> ArgosyError:
    free = human_size(free_space(path))
    sizes = f"{free} free" if needed is None else f"{human_size(needed)} needed, {free} free"
    return ArgosyError(
        f"no space left on the disk while writing `{path}`: {sizes}",
        "make room, or choose another place with `--output DIR` or ARGOSY_DIST",
    )


def require_space(path: Path, needed: int) -> None:
    """Raise ArgosyError if the disk of `path` has fewer than `needed` bytes free, rather than fail minutes later."""
    if free_space(path) < needed:
        raise _full_disk_error(path, needed)


@contextlib.contextmanager
def disk_space_guard(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" in the block into an ArgosyError with the needed and free sizes."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full_disk_error(path, needed) from error
        raise


def remove_leftovers(directory: Path) -> tuple[str, ...]:
    """Remove what a killed build left in `directory`, whose lock must be held; return the names."""
    removed = []
    for path in sorted(directory.iterdir()):
        if path.name.startswith(TEMP_MARK) and (path.is_symlink() or path.is_file()):
            path.unlink()
            removed.append(path.name)
    return tuple(removed)


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Create `directory` if needed and lock it; the operating system releases the lock of a killed process.

    Raises ArgosyError at once if another process holds the lock. If the directory is empty at the end, it is removed.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ArgosyError(f"`{directory}` is in the way: it is not a directory", "choose another `--output`") from None
    except OSError as error:
        raise ArgosyError(f"`{directory}` cannot be created: {error.strerror}", "choose another `--output`") from None
    descriptor = _acquire(directory)
    try:
        yield
    finally:
        (directory / LOCK_NAME).unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # it is usually not empty
            directory.rmdir()


def _acquire(directory: Path) -> int:
    import fcntl  # POSIX only: reading an artefact works without it

    path = directory / LOCK_NAME
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # the last holder removed the empty directory
            directory.mkdir(parents=True, exist_ok=True)
            continue
        except OSError as error:
            sentence = f"`{directory}` cannot be written to: {error.strerror}"
            raise ArgosyError(sentence, "choose another `--output`") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise ArgosyError(
                f"`{directory}` is being written by another build ({who})",
                "wait for it to end, or build into another directory with `--output DIR`",
            ) from None
        if _is_same_file(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)  # the holder removed the file between our open and our lock


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
