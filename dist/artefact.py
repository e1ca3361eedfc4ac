"""Open and check artefact directories; every mismatch is an error with its remedy."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from argosy.dist.chat_config import CHAT_CONFIG_NAME, ChatConfig, read_chat_config
from argosy.dist.cpu_features import architecture, missing_features, operating_system, strength
from argosy.dist.library_file import verified_copy
from argosy.dist.manifest import (
    ABI,
    MANIFEST_NAME,
    LibraryRecord,
    Manifest,
    argosy_version,
    library_target,
    read_manifest,
    tvm_version,
)
from argosy.dist.naming import build_command
from argosy.dist.recognise import is_checkpoint
from argosy.dist.records import Fields
from argosy.dist.signature import trusted_keys
from argosy.dist.tensor_cache import TensorCache, cache_file, read_tensor_cache
from argosy.support.errors import ArtefactError
from argosy.support.layout import TensorInfo
from argosy.support.strict_json import JsonError, parse_json
from argosy.support.text import did_you_mean, one_line

_HALF_BUILT_HINT = "run the same `argosy build` again: it continues where it stopped"


@dataclass(frozen=True, slots=True)
class LibraryMetadata:
    """The `_metadata` of a loaded library, checked against the manifest; `values` is the whole object."""

    params: tuple[TensorInfo, ...]  # in the order of the packed parameters
    context_window_size: int
    prefill_chunk_size: int
    max_batch_size: int
    page_size: int
    vocab_size: int
    hidden_size: int
    num_layers: int
    sliding_window_size: int
    kv_bytes_per_token: int
    activations: str
    kv_dtype: str
    values: dict[str, object]


@dataclass(frozen=True, slots=True)
class Artefact:
    """An open artefact directory. `manifest` is None for one made by MLC, which has weights but no library."""

    directory: Path
    manifest: Manifest | None
    config: ChatConfig
    cache: TensorCache

    @property
    def name(self) -> str:
        """The name of the directory."""
        return self.directory.resolve().name

    def __repr__(self) -> str:
        return f"<Artefact {self.directory}>"

    def rebuild_hint(self, target: str = "cpu") -> str:
        """Return the command that builds this artefact again."""
        if self.manifest is not None:
            return self.manifest.build_command(self.directory, target)
        return build_command("CHECKPOINT", target, self.config.quantization) + " makes one from the checkpoint"

    def library(self, target: str | None = None, device: str = "cpu") -> LibraryRecord:
        """Return the library for `target`, or the fastest one that runs on a `device` of this machine.

        Raises ArtefactError if none runs there with these weights.
        """
        if self.manifest is None:
            sentence = f"`{self.directory}` has no `{MANIFEST_NAME}`, as if MLC had made it: weights, but no library"
            raise ArtefactError(sentence, self.rebuild_hint())
        libraries = self.manifest.libraries
        if not libraries:
            raise ArtefactError(f"`{self.directory}` holds no library yet", self.rebuild_hint(target or "cpu"))
        if target is not None:
            if target not in libraries:
                built = f"`{self.directory}` holds no library for `{target}`; it holds {', '.join(sorted(libraries))}"
                raise ArtefactError(built, self.rebuild_hint(target))
            chosen = libraries[target]
        else:
            chosen = self._best(list(libraries.values()), device)
        machine = _other_machine(chosen, device)
        if machine is not None:  # building the same library again would not help
            in_browser = f"`argosy web {self.directory}` chats in the browser; for this machine's processor: "
            raise ArtefactError(machine, (in_browser if chosen.target.host.for_browsers else "") + self.rebuild_hint())
        problem = self._misfit(chosen, device) or self.manifest.file_problem(self.directory, chosen.file)
        if problem is not None:
            raise ArtefactError(problem, self.rebuild_hint(chosen.target.name))
        return chosen

    def verified_library(self, library: LibraryRecord) -> AbstractContextManager[Path]:
        """Return a context that gives a private copy of `library`, to be loaded in its place.

        Entering it raises ArtefactError if the file is not the one of the manifest.
        """
        assert self.manifest is not None, "a record comes from a manifest"
        hint = self.rebuild_hint(library.target.name)
        return verified_copy(self.library_path(library), self.manifest.files[library.file], hint)

    def browser_libraries(self) -> list[LibraryRecord]:
        """Return the libraries for browsers, by name; each browser checks whether it has what a library needs.

        Raises ArtefactError when one of them is not for these weights or this version of Argosy.
        """
        libraries = {} if self.manifest is None else self.manifest.libraries
        found = [library for _, library in sorted(libraries.items()) if library.target.host.for_browsers]
        for library in found:
            problem = _other_abi(library) or self._other_weights(library)
            if problem is not None:
                raise ArtefactError(problem, self.rebuild_hint(library.target.name))
        return found

    def _best(self, libraries: list[LibraryRecord], device: str) -> LibraryRecord:
        """Return the fastest library that fits; if none does, the least demanding one for this architecture."""
        ranked = sorted(libraries, key=lambda library: (strength(library.target.features), library.target.name))
        fitting = [library for library in ranked if self._misfit(library, device) is None]
        near = [library for library in ranked if library.target.host.arch == architecture()]
        return fitting[-1] if fitting else (near or ranked)[0]

    def _misfit(self, library: LibraryRecord, device: str) -> str | None:
        """Return why `library` does not run on `device` with these weights, without a full stop, or None."""
        machine = _other_tvm(library) or _other_machine(library, device)
        return _other_abi(library) or machine or self._other_weights(library)

    def _other_weights(self, library: LibraryRecord) -> str | None:
        if library.weights_layout == self.cache.layout():
            return None
        return f"the library `{library.file}` was compiled for other weights than those in `{self.directory}`"

    def library_path(self, library: LibraryRecord) -> Path:
        """Return the path of a library."""
        return self.directory / library.file

    def tokenizer_path(self, name: str = "tokenizer.json") -> Path:
        """Return the path of a tokenizer file.

        Raises ArtefactError if the artefact has no such file.
        """
        if name not in self.config.tokenizer_files or not (self.directory / name).is_file():
            raise ArtefactError(f"`{self.directory / name}` is missing", self.rebuild_hint())
        return self.directory / name

    def load_params(self, verify: bool = True) -> dict[str, np.ndarray]:
        """Map all weights; `verify` compares every byte with its SHA-256 first."""
        return self.cache.load(verify)

    def check_metadata(self, library: LibraryRecord, text: str) -> LibraryMetadata:
        """Parse the `_metadata` of the loaded library and compare it with the manifest.

        Raises ArtefactError if they differ.
        """
        path, hint = self.library_path(library), self.rebuild_hint(library.target.name)
        try:
            fields = Fields(parse_json(text), path, "_metadata", hint)
        except JsonError as problem:
            raise ArtefactError(f"`{path}` is malformed: its `_metadata` {problem}", hint) from None
        pairs = {
            "abi": (fields.integer("abi"), library.abi),
            "tvm_version": (fields.text("tvm_version"), library.tvm_version),
            "weights_layout": (fields.sha256("weights_layout"), library.weights_layout),
            "spec_digest": (fields.text("spec_digest"), library.spec_digest),
            "target": (library_target(fields.child("target")), library.target),
        }
        for name, (in_library, in_manifest) in pairs.items():
            if in_library != in_manifest:
                values = f"`{one_line(in_library)}` in the library, `{one_line(in_manifest)}` in the manifest"
                raise ArtefactError(f"`{path}` is not the library of the manifest: `{name}` is {values}", hint)
        params = ((p.text("name"), p.integers("shape"), p.text("dtype")) for p in fields.children("params"))
        return LibraryMetadata(
            params=tuple(params),
            context_window_size=fields.integer("context_window_size"),
            prefill_chunk_size=fields.integer("prefill_chunk_size"),
            max_batch_size=fields.integer("max_batch_size"),
            page_size=fields.integer("page_size"),
            vocab_size=fields.integer("vocab_size"),
            hidden_size=fields.integer("hidden_size"),
            num_layers=fields.integer("num_layers"),
            sliding_window_size=fields.integer("sliding_window_size"),
            kv_bytes_per_token=fields.integer("kv_bytes_per_token"),
            activations=fields.text("activations"),
            kv_dtype=fields.text("kv_dtype"),
            values=fields.values,
        )


def open_artefact(path: str | Path, target: str = "cpu") -> Artefact:
    """Open an artefact directory and check everything but the shards and the libraries.

    `load_params` checks shards, `library` a library. Directories made by MLC are accepted, unless ARGOSY_TRUST demands
    signatures. Raises ArtefactError, whose hint builds for `target` if the directory does not tell what was built.
    """
    directory = Path(path)
    if not os.path.isdir(directory):
        raise _no_directory(directory, target)
    keys = trusted_keys()
    if not is_artefact(directory):
        if keys:
            sentence = f"`{directory}` has no `{MANIFEST_NAME}` that could be signed, and ARGOSY_TRUST demands it"
            raise ArtefactError(sentence, "build the artefact, and sign it with `argosy sign`")
        return _open_without_manifest(directory, target)
    manifest = read_manifest(directory, _HALF_BUILT_HINT, keys)
    hint = manifest.build_command(directory, ",".join(manifest.libraries) or target)
    if manifest.weights is None or manifest.config is None:
        stage = "weights" if manifest.weights is None else "config"
        raise ArtefactError(f"`{directory}` is half-built: its {stage} stage is not complete", hint)
    for name in (*manifest.config.files, *manifest.weights.files):
        problem = None if name.endswith(".bin") else manifest.file_problem(directory, name)
        if problem is not None:
            raise ArtefactError(problem, hint)
    cache = read_tensor_cache(directory, hint)
    for shard in cache.shards:
        record = manifest.files.get(shard.file)
        if record is None or shard.sha256 != record.sha256 or shard.nbytes != record.bytes:
            raise ArtefactError(f"`{directory}` names other digests of `{shard.file}` in its two lists", hint)
    if cache.layout() != manifest.weights.layout:
        raise ArtefactError(f"`{directory}` holds other weights than its manifest says", hint)
    return Artefact(directory, manifest, read_chat_config(directory, hint), cache)


def _way_to_one(directory: Path, target: str) -> str:
    """Return what makes or finds an artefact for someone who named something else."""
    if is_checkpoint(directory):
        return build_command(str(directory), target, "q4f16_1") + " makes one of this checkpoint"
    return "`argosy list artefacts` shows what is built"


def _no_directory(directory: Path, target: str) -> ArtefactError:
    if os.path.exists(directory):
        return ArtefactError(f"`{directory}` is a file, not an artefact directory", _way_to_one(directory, target))
    siblings = [path.name for path in list_artefacts(directory.parent)]
    hint = did_you_mean(directory.name, siblings) if siblings else _way_to_one(directory, target)
    return ArtefactError(f"there is no artefact directory `{directory}`", hint)


def _open_without_manifest(directory: Path, target: str) -> Artefact:
    has_config, has_cache = os.path.isfile(directory / CHAT_CONFIG_NAME), cache_file(directory) is not None
    if has_config and has_cache:
        hint = "fetch the directory again: Argosy did not make it"
        return Artefact(directory, None, read_chat_config(directory, hint), read_tensor_cache(directory, hint))
    if has_config or has_cache or any(directory.glob("params_shard_*.bin")):
        raise ArtefactError(f"`{directory}` is half-built: it has no `{MANIFEST_NAME}`", _HALF_BUILT_HINT)
    sentence = f"`{directory}` is not an artefact directory: it has no `{MANIFEST_NAME}`"
    raise ArtefactError(sentence, _way_to_one(directory, target))


def is_artefact(path: Path) -> bool:
    """Return whether `path` is a directory made by Argosy, complete or not."""
    return os.path.isfile(path / MANIFEST_NAME)


def list_artefacts(root: Path) -> list[Path]:
    """List the artefact directories directly below `root`, by name."""
    try:
        return sorted(path for path in root.iterdir() if is_artefact(path))
    except OSError:  # missing, not a directory, or not readable
        return []


def _other_abi(library: LibraryRecord) -> str | None:
    if library.abi == ABI:
        return None
    return f"the library `{library.file}` has ABI {library.abi}, and Argosy {argosy_version()} runs ABI {ABI}"


def _other_tvm(library: LibraryRecord) -> str | None:
    if library.tvm_version == tvm_version():
        return None
    versions = f"with TVM {library.tvm_version}, and TVM {tvm_version()} is installed"
    return f"the library `{library.file}` was compiled {versions}"


def _other_machine(library: LibraryRecord, device: str) -> str | None:
    """Return why the library does not run on a `device` of this machine, or None."""
    target = library.target
    if target.device != device:
        return f"the library `{library.file}` is for `{target.name}`, which this runtime does not drive"
    if target.host.arch != architecture() or target.host.system not in (None, operating_system()):
        here = f"{architecture()} {operating_system()}"
        return f"the library `{library.file}` was compiled for `{target.triple}`, and this machine is {here}"
    missing = missing_features(target.features)
    if missing:
        names = ", ".join(missing)
        return f"the library `{library.file}` needs the CPU features `{names}`, which this machine lacks"
    return None
