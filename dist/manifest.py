"""Write and read `argosy-manifest.json`, the record of a build.

The manifest is written after the files it names, so a directory without one is half-built. It records all stages of the
build with their keys (`fingerprint.py`), so that a rebuild makes only what changed.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from argosy.dist.naming import build_command
from argosy.dist.records import Fields, read_json
from argosy.dist.signature import check_signature, sign, signature_path
from argosy.dist.triples import Triple, parse_triple
from argosy.support.errors import ArtefactError
from argosy.support.files import sha256_file, write_json_atomic
from argosy.support.text import one_line

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey

MANIFEST_NAME = "argosy-manifest.json"
ABI = 1
"""Version of a library's exports and of the artefact directory; the runtime accepts only this one."""


@functools.cache
def argosy_version() -> str:
    """Return the version of this package."""
    return importlib.metadata.version("argosy")


@functools.cache
def tvm_version() -> str:
    """Return the version of the installed TVM, importing it only if its package metadata are missing."""
    try:
        return importlib.metadata.version("apache-tvm")
    except importlib.metadata.PackageNotFoundError:  # runtime-only files have no package metadata
        import tvm

        return str(tvm.__version__)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """Size and SHA-256 of a file in the directory."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class LibraryTarget:
    """What a library was compiled for, as in the library's own `_metadata`.

    `device` is the kind of device that its code runs on, driven by a host of the machine that `triple` names.
    """

    name: str
    triple: str
    cpu: str
    features: tuple[str, ...]
    device: str = "cpu"

    @property
    def host(self) -> Triple:
        """The parsed triple."""
        return parse_triple(self.triple)


@dataclass(frozen=True, slots=True)
class WeightsRecord:
    """The weights stage; `layout` must match the libraries'."""

    key: str
    layout: str
    rounding: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfigRecord:
    """The config stage: chat config and tokenizer files."""

    key: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LibraryRecord:
    """The library stage of one target."""

    key: str
    file: str
    abi: int
    argosy_version: str
    tvm_version: str
    target: LibraryTarget
    weights_layout: str
    spec_digest: str

    @property
    def files(self) -> tuple[str, ...]:
        """The library's file, as a tuple like the other stages'."""
        return (self.file,)


StageRecord: TypeAlias = "WeightsRecord | ConfigRecord | LibraryRecord"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The record of an artefact directory.

    `model` names the checkpoint for `argosy build --model`: a name, a Hugging Face id, or an absolute path. `options`
    are the options of the build that are not the defaults, by name; None if they are not known.
    """

    model: str
    quantization: str
    checkpoint_digest: str
    abi: int = ABI
    argosy_version: str = dataclasses.field(default_factory=argosy_version)
    weights: WeightsRecord | None = None
    config: ConfigRecord | None = None
    libraries: dict[str, LibraryRecord] = dataclasses.field(default_factory=dict)
    files: dict[str, FileRecord] = dataclasses.field(default_factory=dict)
    options: dict[str, str] | None = None

    def with_files(self, directory: Path, names: Iterable[str]) -> Manifest:
        """Return the manifest with the present sizes and digests of the files `names` in `directory`."""
        fresh = {name: FileRecord(sha256_file(directory / name), (directory / name).stat().st_size) for name in names}
        return dataclasses.replace(self, files={**self.files, **fresh})

    def used_files(self) -> tuple[str, ...]:
        """Return the files of all stages."""
        stages: tuple[StageRecord | None, ...] = (self.weights, self.config, *self.libraries.values())
        return tuple(sorted({name for stage in stages if stage is not None for name in stage.files}))

    def file_problem(self, directory: Path, name: str) -> str | None:
        """Describe what is wrong with the file `name`, as a sentence without a full stop, or return None."""
        path, record = directory / name, self.files[name]
        if not os.path.isfile(path):
            return f"`{path}` is missing"
        size = path.stat().st_size
        if size != record.bytes:
            return f"`{path}` has {size} bytes instead of {record.bytes}"
        if sha256_file(path) != record.sha256:
            return f"`{path}` was altered: its SHA-256 is not the recorded one"
        return None

    def build_command(self, directory: Path, target: str) -> str:
        """Return the command that builds the artefact in `directory` again."""
        return build_command(self.model, target, self.quantization, directory, self.options)


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `argosy-manifest.json`, dropping files that no stage names any more."""
    used = set(manifest.used_files())
    missing = used - manifest.files.keys()
    assert not missing, f"no digest recorded for {missing}"
    signature_path(directory / MANIFEST_NAME).unlink(missing_ok=True)  # it is of the manifest before
    kept = {name: record for name, record in sorted(manifest.files.items()) if name in used}
    write_json_atomic(directory / MANIFEST_NAME, dataclasses.asdict(dataclasses.replace(manifest, files=kept)))


@dataclass(frozen=True, slots=True)
class Verified:
    """A directory whose files are all as its manifest says; `signed` tells whether there is a signature, by anyone."""

    files: int
    bytes: int
    signed: bool


def verify_directory(directory: Path, keys: Sequence[PublicKey] = ()) -> Verified:
    """Compare every file in `directory` with its manifest, which one of `keys` must have signed, if there are any.

    Raises ArtefactError if the directory is half-built, or a file is not the recorded one.
    """
    manifest = read_manifest(directory, keys=keys)
    _require_whole(directory, manifest)
    names = manifest.used_files()
    signed = signature_path(directory / MANIFEST_NAME).is_file()
    return Verified(len(names), sum(manifest.files[name].bytes for name in names), signed)


def sign_manifest(directory: Path, key: SecretKey) -> None:
    """Sign the manifest in `directory`, and with it every file that it names.

    Raises ArtefactError if the directory is half-built, or a file is not the recorded one.
    """
    path = directory / MANIFEST_NAME
    read: list[bytes] = []
    manifest = _parse(directory, read_json(path, check=read.append), None)
    _require_whole(directory, manifest)
    comment = f"{one_line(manifest.model, 200)} {manifest.quantization}, argosy {manifest.argosy_version}"
    sign(path, read[0], key, comment)


def _require_whole(directory: Path, manifest: Manifest) -> None:
    """Raise ArtefactError unless all stages are there and all files are the recorded ones."""
    if manifest.weights is None or manifest.config is None or not manifest.libraries:
        raise ArtefactError(f"`{directory}` is half-built", "`argosy build` completes it")
    for name in manifest.used_files():
        problem = manifest.file_problem(directory, name)
        if problem is not None:
            targets = ",".join(manifest.libraries)
            raise ArtefactError(problem, manifest.build_command(directory, targets))


def read_manifest(directory: Path, hint: str | None = None, keys: Sequence[PublicKey] = ()) -> Manifest:
    """Read `argosy-manifest.json` from `directory`; one of `keys`, if there are any, must have signed it.

    Raises ArtefactError if it is missing, malformed, of another ABI, lacks the digest of a file it names, or the
    signature of the keys.
    """
    path = directory / MANIFEST_NAME
    check = partial(check_signature, path, keys=keys) if keys else None
    return _parse(directory, read_json(path, hint, check), hint)


def _parse(directory: Path, fields: Fields, hint: str | None) -> Manifest:
    abi = fields.integer("abi")
    if abi != ABI:
        known = f"this version of Argosy reads ABI {ABI}"
        newer = "pip install --upgrade ./argosy-VERSION.whl, with a newer wheel" if abi > ABI else hint
        raise ArtefactError(f"`{directory}` has the artefact ABI {abi}, and {known}", newer)
    manifest = Manifest(
        model=fields.text("model"),
        quantization=fields.word("quantization"),
        checkpoint_digest=fields.word("checkpoint_digest"),
        argosy_version=fields.word("argosy_version"),
        weights=None if fields.values.get("weights") is None else _weights(fields.child("weights")),
        config=None if fields.values.get("config") is None else _config(fields.child("config")),
        libraries={target: _library(library) for target, library in fields.items("libraries")},
        files={name: _file(file) for name, file in fields.items("files")},
        options=_options(fields),
    )
    for name in manifest.used_files():
        if name not in manifest.files:
            raise fields.error("files", f"has no digest of `{name}`")
    return manifest


def _options(fields: Fields) -> dict[str, str] | None:
    if fields.values.get("options") is None:
        return None
    options = fields.child("options")
    return {name: options.text(name) for name in options.values}


def _file(fields: Fields) -> FileRecord:
    return FileRecord(fields.sha256("sha256"), fields.integer("bytes", minimum=0))


def _weights(fields: Fields) -> WeightsRecord:
    files = fields.file_names("files")
    return WeightsRecord(fields.word("key"), fields.sha256("layout"), fields.word("rounding"), files)


def _config(fields: Fields) -> ConfigRecord:
    return ConfigRecord(fields.word("key"), fields.file_names("files"))


def _library(fields: Fields) -> LibraryRecord:
    return LibraryRecord(
        key=fields.word("key"),
        file=fields.file_name("file"),
        abi=fields.integer("abi"),
        argosy_version=fields.word("argosy_version"),
        tvm_version=fields.word("tvm_version"),
        target=library_target(fields.child("target")),
        weights_layout=fields.sha256("weights_layout"),
        spec_digest=fields.word("spec_digest"),
    )


def library_target(fields: Fields) -> LibraryTarget:
    """Parse the `target` object of a manifest or of a library's `_metadata`."""
    device = fields.word("device") if "device" in fields.values else "cpu"  # libraries older than the field
    return LibraryTarget(
        fields.word("name"), fields.word("triple"), fields.word("cpu"), fields.words("features"), device
    )
