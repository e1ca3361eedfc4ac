"""Keep packed weights beside their artefact, so that the next load maps them and packs nothing.

`packed-<digest>/` holds them as an artefact holds its weights (`tensor-cache.json`, written last, and shards with a
SHA-256 each). The digest covers the stored weights, the library and its recipe. When one of them changes, another
directory is used, and the old one is removed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from argosy.dist.artefact import Artefact
from argosy.dist.manifest import LibraryRecord
from argosy.dist.tensor_cache import TensorCacheWriter, read_tensor_cache
from argosy.dist.tvm_bridge import packed_params
from argosy.runtime_bindings.engine.packing import PackingRecipe
from argosy.support.errors import ArgosyError, ArtefactError
from argosy.support.files import directory_lock, remove_leftovers, require_space, write_json_atomic
from argosy.support.layout import TensorInfo

FORMAT = 1  # of the directory; part of the digest
LIBRARY_NAME = "packed.json"  # names the library that the directory is for
_DIRECTORY = re.compile(r"packed-[0-9a-f]{16}")


class PackedCache:
    """The packed weights of one library of an artefact."""

    def __init__(
        self, artefact: Artefact, record: LibraryRecord, recipe: PackingRecipe, stored: Sequence[TensorInfo]
    ) -> None:
        """Find the directory for `stored`, the library's parameters before packing."""
        assert artefact.manifest is not None
        self._artefact = artefact
        self._library = record.file
        self._parameters = recipe.parameters(stored)
        shards = [shard.sha256 or shard.md5 for shard in artefact.cache.shards]
        library = artefact.manifest.files[record.file].sha256
        made_from = json.dumps([FORMAT, shards, artefact.cache.layout(), library, asdict(recipe)])
        self.directory = artefact.directory / f"packed-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"

    def load(self) -> list[Any] | None:
        """Map the weights as TVM tensors, after checking every byte; None if they are missing or damaged."""
        try:
            return packed_params(read_tensor_cache(self.directory).load(), self._parameters)
        except ArtefactError:
            return None

    def save(self, arrays: Sequence[np.ndarray]) -> str | None:
        """Write packed weights, and remove those for an older state of the library. Return what went wrong, if
        anything did."""
        try:
            self._remove_stale()
            require_space(self._artefact.directory, sum(array.nbytes for array in arrays))
            with directory_lock(self.directory):
                remove_leftovers(self.directory)
                with TensorCacheWriter(self.directory) as writer:
                    for (name, _, _), array in zip(self._parameters, arrays, strict=True):
                        writer.add(name, array)
                    write_json_atomic(self.directory / LIBRARY_NAME, {"library": self._library})
                    writer.finish()
        except ArgosyError as error:
            return f"packed weights were not kept: {error.message}"
        except OSError as error:
            return f"packed weights were not kept: `{self.directory}` cannot be written to: {error.strerror}"
        return None

    def _remove_stale(self) -> None:
        """Remove the directories for this library in an older state, and for libraries that are gone."""
        assert self._artefact.manifest is not None
        current = {record.file for record in self._artefact.manifest.libraries.values()} - {self._library}
        for path in self._artefact.directory.iterdir():
            if path != self.directory and _DIRECTORY.fullmatch(path.name) and not path.is_symlink():
                library = None
                with suppress(OSError, ValueError, KeyError, TypeError):
                    library = json.loads((path / LIBRARY_NAME).read_text(encoding="utf-8"))["library"]
                if library not in current:
                    shutil.rmtree(path, ignore_errors=True)
