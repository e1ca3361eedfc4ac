"""Find artefacts that were built, by the name of a directory or of a model, from any directory."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from argosy.dist.artefact import is_artefact, list_artefacts
from argosy.dist.catalogue import CATALOGUE, scheme_for
from argosy.dist.chat_config import CHAT_CONFIG_NAME
from argosy.dist.manifest import Manifest, read_manifest
from argosy.dist.naming import artefact_roots, build_command, model_slug
from argosy.dist.recognise import is_checkpoint
from argosy.dist.tensor_cache import cache_file
from argosy.support.errors import ArtefactError
from argosy.support.text import did_you_mean, one_line
from argosy.support.user_files import absolute

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class NotBuiltError(ArtefactError):
    """A model exists, as a checkpoint or in the catalogue, but no artefact of it; `model` is what to build."""

    def __init__(self, message: str, model: str, target: str) -> None:
        super().__init__(message, build_command(model, target, scheme_for(model, target)))
        self.model = model


def find_artefact(name: str, target: str = "cpu") -> Path:
    """Return the directory of the artefact that `name` names.

    `name` is a directory; or the name of an artefact, or of the model that one was built from (in the catalogue, on the
    Hugging Face hub, or the file or directory of a checkpoint), below one of `artefact_roots`. Of several artefacts of
    one model, those with a library for `target` are preferred, then those built with default options, then the scheme
    that the catalogue recommends. A path that is neither is returned as it is, for opening it says what is wrong.

    Raises NotBuiltError for a model without an artefact, ArtefactError for an unknown name and if there are several.
    """
    path = absolute(Path(name)) if name.startswith("~") else Path(name)
    if _holds_artefact(path):
        return path
    plain = bool(name) and name not in (".", "..") and not any(mark and mark in name for mark in (os.sep, os.altsep))
    roots = artefact_roots()
    if plain:
        named = next((root / name for root in roots if _holds_artefact(root / name)), None)
        if named is not None:
            return named
    built = known_artefacts(roots)
    of_model = [artefact for artefact in built if _is_of(artefact, name, path if os.path.exists(path) else None, plain)]
    if len(of_model) > 1:
        of_model = [artefact for artefact in of_model if _serves(artefact, target)] or of_model
    if len(of_model) > 1:
        of_model = [artefact for artefact in of_model if _has_default_name(artefact)] or of_model
    if len(of_model) > 1 and plain:
        of_model = [artefact for artefact in of_model if _is_as_recommended(artefact, target)] or of_model
    if len(of_model) == 1:
        return of_model[0]
    if of_model:
        raise ArtefactError(
            f"`{one_line(name)}` is built in several forms", "choose one: " + ", ".join(_spoken(of_model))
        )
    if name in CATALOGUE or is_checkpoint(path):
        raise NotBuiltError(f"`{one_line(name)}` is not built yet", name, target)
    if not plain or os.path.exists(path):
        if _HUB_ID.fullmatch(name) and not os.path.exists(path) and not os.path.isdir(path.parent):
            raise NotBuiltError(f"no artefact of the Hugging Face model `{name}` is built yet", name, target)
        if not os.path.exists(path) and any(artefact.name == path.name for artefact in built):
            raise ArtefactError(f"there is no artefact directory `{one_line(name)}`", f"did you mean `{path.name}`?")
        return path
    places = "`, `".join(dict.fromkeys(map(str, [roots[0], *(artefact.parent for artefact in built)])))
    raise ArtefactError(
        f"no artefact `{one_line(name)}` in `{places}`",
        did_you_mean(name, dict.fromkeys([*(artefact.name for artefact in built), *CATALOGUE])),
    )


def known_artefacts(roots: Iterable[Path] | None = None) -> list[Path]:
    """List the artefacts below `roots`, by default below all `artefact_roots`."""
    return [artefact for root in (artefact_roots() if roots is None else roots) for artefact in list_artefacts(root)]


def shortest_name(artefact: Path, target: str = "cpu") -> str:
    """Return the shortest text that finds an artefact: its model's name, its own, or its path."""
    manifest = manifest_of(artefact)
    names = [model_slug(manifest.model) if manifest else "", artefact.name]
    for name in filter(None, names):
        with contextlib.suppress(ArtefactError):
            if find_artefact(name, target).resolve() == artefact.resolve():
                return name
    return str(artefact)


def manifest_of(artefact: Path) -> Manifest | None:
    """Return the manifest of an artefact, or None if it cannot be read."""
    try:
        return read_manifest(artefact)
    except ArtefactError:
        return None


def _holds_artefact(path: Path) -> bool:
    """Return whether `path` is an artefact directory, or a part of one, which opening explains better."""
    try:
        return os.path.isdir(path) and (
            is_artefact(path)
            or os.path.isfile(path / CHAT_CONFIG_NAME)
            or cache_file(path) is not None
            or next(path.glob("params_shard_*.bin"), None) is not None
        )
    except (OSError, ValueError):  # a directory that cannot be read; a name that is too long
        return False


def _is_of(artefact: Path, name: str, path: Path | None, plain: bool) -> bool:
    """Return whether `artefact` was built from the model called `name`, a checkpoint at `path` if that exists.

    A plain name needs to be the last part of the model's only, because a checkpoint may lie anywhere.
    """
    slug = model_slug(name) if plain else ""
    manifest = manifest_of(artefact)
    if manifest is None:
        return bool(slug) and artefact.name.rpartition("-")[0] == slug
    if manifest.model == name or (path is not None and absolute(Path(manifest.model)) == absolute(path)):
        return True
    return bool(slug) and model_slug(manifest.model) == slug


def _has_default_name(artefact: Path) -> bool:
    """Return whether `artefact` has the name of a build with default options."""
    manifest = manifest_of(artefact)
    return manifest is not None and artefact.name == f"{model_slug(manifest.model)}-{manifest.quantization}"


def _is_as_recommended(artefact: Path, target: str) -> bool:
    """Return whether `artefact` is a model of the catalogue in the scheme that this recommends for `target`."""
    manifest = manifest_of(artefact)
    if manifest is None or manifest.model not in CATALOGUE:
        return False
    return manifest.quantization == scheme_for(manifest.model, target)


def _serves(artefact: Path, target: str) -> bool:
    """Return whether `artefact` has a library for the kind of device of `target`: browsers, or this machine."""
    manifest = manifest_of(artefact)
    if manifest is None:
        return False
    if target in manifest.libraries:
        return True
    return target == "cpu" and any(not record.target.host.for_browsers for record in manifest.libraries.values())


def _spoken(artefacts: list[Path]) -> list[str]:
    """Return names that find these artefacts: the directory's alone where no other has the same."""
    names = [artefact.name for artefact in artefacts]
    return [str(artefact) if names.count(artefact.name) > 1 else artefact.name for artefact in artefacts]
