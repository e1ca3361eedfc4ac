"""Check, replace and record the stages of a build in its output directory, one at a time.

    with open_build_directory(path, model=..., quantization=..., checkpoint_digest=...) as build:
        if not build.is_current(build.manifest.weights, key):
            with build.weights_writer() as writer:
                ...                                     # writer.add(name, array)
                build.publish_weights(writer, key=key, rounding="full")

Weights and config are removed from the manifest before their files are replaced, and entered again when the files are
complete; a library is one file, which is replaced atomically. So a killed build leaves a directory that is sound, or
whose manifest lacks the unfinished stage, which the next build makes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.dist.chat_config import CHAT_CONFIG_NAME, ChatConfig, write_chat_config
from argosy.dist.fingerprint import is_current
from argosy.dist.manifest import (
    ABI,
    MANIFEST_NAME,
    ConfigRecord,
    LibraryRecord,
    LibraryTarget,
    Manifest,
    StageRecord,
    WeightsRecord,
    argosy_version,
    read_manifest,
    tvm_version,
    write_manifest,
)
from argosy.dist.naming import library_name
from argosy.dist.records import is_plain_name
from argosy.dist.tensor_cache import TensorCacheWriter, read_tensor_cache
from argosy.support.errors import ArtefactError
from argosy.support.files import directory_lock, disk_space_guard, remove_leftovers, write_bytes_atomic
from argosy.support.text import one_line

if TYPE_CHECKING:
    from minisign import PublicKey


class BuildDirectory:
    """A locked output directory and its manifest."""

    def __init__(self, directory: Path, manifest: Manifest, found: Manifest | None = None) -> None:
        """`found` is the manifest that was there before."""
        self.directory = directory
        self.manifest = manifest
        self.found = found

    def is_current(self, stage: StageRecord | None, key: str) -> bool:
        """Return whether `stage` was made with `key`, and its files are complete and unaltered."""
        return is_current(self.manifest, self.directory, stage, key)

    def weights_writer(self) -> TensorCacheWriter:
        """Make a writer into this directory, to be passed to `publish_weights` inside its block."""
        return TensorCacheWriter(self.directory)

    def publish_weights(self, writer: TensorCacheWriter, *, key: str, rounding: str) -> None:
        """Finish `writer` and record its tensors as the weights of this directory."""
        self._record(weights=None)
        files = writer.finish()
        layout = read_tensor_cache(self.directory).layout()
        self.manifest = self.manifest.with_files(self.directory, files)
        self._record(weights=WeightsRecord(key, layout, rounding, files))

    def publish_config(self, config: ChatConfig, tokenizer_files: Mapping[str, bytes], *, key: str) -> None:
        """Write and record the chat config and the tokenizer's files.

        Raises ArtefactError for a tokenizer file whose name is not a plain file name.
        """
        for name in tokenizer_files:
            if not is_plain_name(name):
                raise ArtefactError(f"the checkpoint has a tokenizer file named `{one_line(name)}`", "rename the file")
        self._record(config=None)
        with disk_space_guard(self.directory):
            for name, data in tokenizer_files.items():
                write_bytes_atomic(self.directory / name, data)
            write_chat_config(self.directory, config)
        files = (*sorted(tokenizer_files), CHAT_CONFIG_NAME)
        self.manifest = self.manifest.with_files(self.directory, files)
        self._record(config=ConfigRecord(key, files))

    def library_path(self, target: str, suffix: str = ".so") -> Path:
        """Return the path of the library for `target`; write it through `argosy.support.files.atomic_path`."""
        return self.directory / library_name(self.manifest.model, self.manifest.quantization, target, suffix)

    def publish_library(
        self, file: Path, target: LibraryTarget, *, key: str, weights_layout: str, spec_digest: str
    ) -> None:
        """Record `file`, which must be in this directory, as the library for `target`."""
        assert file.parent == self.directory, file
        record = LibraryRecord(
            key=key, file=file.name, abi=ABI, argosy_version=argosy_version(), tvm_version=tvm_version(), target=target,
            weights_layout=weights_layout, spec_digest=spec_digest,
        )  # fmt: skip
        self.manifest = self.manifest.with_files(self.directory, [file.name])
        self._record(libraries={**self.manifest.libraries, target.name: record})

    def _record(self, **changes: object) -> None:
        self.manifest = dataclasses.replace(self.manifest, **changes)  # type: ignore[arg-type]
        write_manifest(self.directory, self.manifest)


@contextlib.contextmanager
def open_build_directory(
    directory: Path, *, model: str, quantization: str, checkpoint_digest: str, keys: Sequence[PublicKey] = ()
) -> Iterator[BuildDirectory]:
    """Lock `directory`, remove the leftovers of a killed build, and read which stages are finished.

    A manifest that cannot be read, has another ABI, or that none of `keys` has signed (if there are any), counts as no
    build at all. Raises ArgosyError if another build is running there, or if the directory holds files but no artefact.
    """
    with directory_lock(directory):
        remove_leftovers(directory)
        _refuse_foreign(directory)
        fresh = Manifest(model=model, quantization=quantization, checkpoint_digest=checkpoint_digest)
        manifest, found = fresh, None
        with contextlib.suppress(ArtefactError):
            found = read_manifest(directory, keys=keys)
            manifest = dataclasses.replace(
                fresh, weights=found.weights, config=found.config, libraries=found.libraries, files=found.files
            )
        yield BuildDirectory(directory, manifest, found)


def _refuse_foreign(directory: Path) -> None:
    """Refuse a directory that holds files, none of which looks like an artefact's."""
    names = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    ours = {MANIFEST_NAME, CHAT_CONFIG_NAME, "tensor-cache.json", "tokenizer.json"}
    if names and not names & ours and not any(name.startswith("params_shard_") for name in names):
        sentence = f"`{directory}` holds other files (`{min(names)}`) and no artefact"
        raise ArtefactError(sentence, "choose an empty directory with `--output`")
