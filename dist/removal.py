"""Remove artefacts: the files that Argosy wrote, and no others."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from argosy.dist.artefact import is_artefact
from argosy.dist.chat_config import CHAT_CONFIG_NAME
from argosy.dist.manifest import MANIFEST_NAME
from argosy.dist.naming import artefact_roots
from argosy.dist.store import NotBuiltError, find_artefact, manifest_of
from argosy.support.errors import ArtefactError
from argosy.support.files import directory_lock

_OURS = re.compile(
    rf"\.argosy.*|{re.escape(MANIFEST_NAME)}(\.minisig)?|{re.escape(CHAT_CONFIG_NAME)}|tensor-cache\.json"
    r"|params_shard_\d+\.bin"
)
_PACKED = re.compile(r"packed-[0-9a-f]{16}")  # a directory with weights in a library's own layout


@dataclass(frozen=True, slots=True)
class Removal:
    """An artefact to be removed: its files, their bytes, and the names of other files, which are kept."""

    directory: Path
    files: tuple[Path, ...]
    bytes: int
    kept: tuple[str, ...]


def plan_removal(name: str) -> Removal:
    """Find what is to be removed; `name` is an artefact's as in `find_artefact`.

    Raises ArtefactError for what is not an artefact. Below `artefact_roots` a half-built one counts, too.
    """
    try:
        directory = find_artefact(name)
    except NotBuiltError:
        raise ArtefactError(f"`{name}` is not built: nothing is removed", "`argosy ls` lists artefacts") from None
    if not os.path.isdir(directory):
        raise ArtefactError(f"there is no artefact `{directory}`", "`argosy ls` lists artefacts")
    inside = any(directory.resolve().parent == root.resolve() for root in artefact_roots())
    if not is_artefact(directory) and not (inside and _looks_half_built(directory)):
        raise ArtefactError(f"`{directory}` is not an artefact that argosy built", "remove it yourself if you mean it")
    if directory.is_symlink():
        return Removal(directory, (), 0, ())
    manifest = manifest_of(directory)
    used = set() if manifest is None else set(manifest.used_files())
    files, kept = [], []
    for path in sorted(directory.iterdir()):
        ours = path.name in used or _OURS.fullmatch(path.name) is not None or (manifest is None and inside)
        plain = path.is_symlink() or not path.is_dir()
        if (ours and plain) or (_PACKED.fullmatch(path.name) and not plain):
            files.append(path)
        else:
            kept.append(path.name)
    return Removal(directory, tuple(files), sum(map(size_on_disk, files)), tuple(kept))


def remove(plan: Removal) -> list[str]:
    """Remove the files of `plan`, the manifest last, and the directory if nothing is left; return what was kept.

    Of a symbolic link, only the link is removed.
    Raises ArgosyError if a build is running there.
    """
    if plan.directory.is_symlink():
        plan.directory.unlink()
        return []
    with directory_lock(plan.directory):
        for path in sorted(plan.files, key=lambda path: path.name == MANIFEST_NAME):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return list(plan.kept)


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files in a directory; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(size_on_disk(entry) for entry in path.iterdir())


def _looks_half_built(directory: Path) -> bool:
    names = {path.name for path in directory.iterdir()}
    return CHAT_CONFIG_NAME in names or any(name.startswith(("params_shard_", ".argosy")) for name in names)
