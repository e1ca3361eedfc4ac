"""Collect the files that may be served, by URL path, with their size, digest, type and cache rule.

A request never looks up a path on the disk: what is not in the table does not exist. Every file is compared with its
digest once, and `Served.open` refuses a file that has changed since.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from argosy.dist.artefact import Artefact, open_artefact
from argosy.dist.manifest import MANIFEST_NAME, Manifest
from argosy.dist.naming import build_command
from argosy.support.errors import ArgosyError, ArtefactError
from argosy.support.files import sha256_file
from argosy.support.progress import Progress

ARTEFACT = "/artefact/"
RESOLVED = "/artefact/resolve/main/"  # where WebLLM looks, below the URL that it calls `model`
REVALIDATE = "no-cache"  # cache, and revalidate by ETag before each use
FOREVER = "public, max-age=31536000, immutable"  # for names that contain a digest of their content
HASHED_ASSETS = "assets/"

# Not the system's own table: browsers compile a wasm file while it arrives only if it has this type.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
    ".jinja": "text/plain; charset=utf-8",
}
BINARY = "application/octet-stream"

# Neither through a link nor waiting for the writer of a pipe, should one have taken the file's place.
_OPEN = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Served:
    """A file that may be served. `identity` is from before its digest was taken."""

    path: Path
    bytes: int
    sha256: str
    media_type: str
    cache_control: str
    identity: Identity

    @property
    def etag(self) -> str:
        """A strong ETag: the digest of the content."""
        return f'"{self.sha256}"'

    def open(self) -> BinaryIO:
        """Open the file. Raises ArtefactError if it is not the one whose digest was taken."""
        try:
            descriptor = os.open(self.path, _OPEN)
        except OSError as error:
            raise ArtefactError(f"`{self.path}` cannot be read any more: {error.strerror}") from None
        if _identity(os.fstat(descriptor)) != self.identity:
            os.close(descriptor)
            raise ArtefactError(f"`{self.path}` was changed while it was served", "start `argosy web` again")
        return open(descriptor, "rb", buffering=0)


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def served(root: Path, name: str, cache_control: str = REVALIDATE) -> Served:
    """Return the file `name` of the folder `root`. Raises ArtefactError if it lies outside of `root` or is no file."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise ArtefactError(f"`{root / name}` leads out of its directory, to `{path}`", "put a copy in its place")
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ArtefactError(f"`{root / name}` is not a file")
    media_type = MEDIA_TYPES.get(path.suffix.lower(), BINARY)
    return Served(path, found.st_size, sha256_file(path), media_type, cache_control, _identity(found))


def artefact_files(directory: Path, progress: Progress, target: str, schemes: Sequence[str]) -> dict[str, Served]:
    """Return the files of an artefact that a browser may fetch, by URL path. Every byte is compared with the manifest.

    Raises ArtefactError where the artefact is damaged or not built for a browser; its hint is a command that builds it
    for `target`, in its own scheme if that is one of `schemes`, else in the first of them.
    """
    artefact = open_artefact(directory, target)
    manifest = artefact.manifest
    if manifest is None or not artefact.browser_libraries():
        raise _not_for_browsers(artefact, target, schemes)
    hint = manifest.build_command(directory, ",".join(manifest.libraries))
    names = list(browser_files(manifest))
    total = sum(manifest.files[name].bytes for name in names)
    found, done = [(MANIFEST_NAME, served(directory, MANIFEST_NAME))], 0
    for name in names:
        progress.report("check the artefact", done, total, "bytes")
        found.append((name, _checked(directory, name, manifest, hint)))
        done += manifest.files[name].bytes
    progress.report("check the artefact", done, total, "bytes")
    return {prefix + name: file for name, file in found for prefix in (ARTEFACT, RESOLVED)}


def _not_for_browsers(artefact: Artefact, target: str, schemes: Sequence[str]) -> ArtefactError:
    manifest = artefact.manifest
    held = "" if manifest is None else ", ".join(sorted(manifest.libraries))
    sentence = f"`{artefact.directory}` was not built for a browser: it holds {held or 'no library'}"
    if manifest is None or manifest.quantization in schemes:
        return ArtefactError(sentence, artefact.rebuild_hint(target))
    return ArtefactError(sentence, build_command(manifest.model, target, schemes[0]))


def browser_files(manifest: Manifest) -> Iterable[str]:
    """Yield the files that a browser needs: config, tokenizer, weights, and the libraries for browsers."""
    assert manifest.config is not None and manifest.weights is not None
    yield from manifest.config.files
    yield from manifest.weights.files
    yield from (library.file for library in manifest.libraries.values() if library.target.host.for_browsers)


def _checked(directory: Path, name: str, manifest: Manifest, hint: str) -> Served:
    record = manifest.files[name]
    size = os.stat(directory / name).st_size if os.path.isfile(directory / name) else None
    if size != record.bytes:
        raise ArtefactError(manifest.file_problem(directory, name) or f"`{directory / name}` is not a file", hint)
    file = served(directory, name)
    if file.sha256 != record.sha256:
        raise ArtefactError(f"`{directory / name}` was altered: its SHA-256 is not the recorded one", hint)
    return file


def page_files(static: Path) -> dict[str, Served]:
    """Return the files of the built chat page by URL path; `/` is its `index.html`."""
    names = sorted(path.relative_to(static).as_posix() for path in static.rglob("*") if path.is_file())
    if "index.html" not in names:
        raise ArgosyError(f"`{static}` holds no chat page: it has no `index.html`")
    shown = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
    found = {
        "/" + name: served(static, name, FOREVER if name.startswith(HASHED_ASSETS) else REVALIDATE) for name in shown
    }
    return {"/": found["/index.html"], **found}
