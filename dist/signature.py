"""Sign manifests, and check their signatures, in the format of minisign (jedisct1.github.io/minisign).

A manifest has the SHA-256 of every other file of an artefact, so its signature covers the whole directory.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy.support import env
from argosy.support.bounded_file import BoundedFile, path_line
from argosy.support.errors import ArgosyError, ArtefactError, UsageError
from argosy.support.files import write_bytes_atomic
from argosy.support.text import one_line

if TYPE_CHECKING:
    from minisign import PublicKey, SecretKey

SIGNATURE_SUFFIX = ".minisig"
_MAX_BYTES = 4096  # of keys and signatures, which have about 200
_KEY_TEXT = re.compile(r"RW[A-Za-z0-9+/]{54}")
_INSTALL = "pip install 'argosy[sign]'"


def trusted_keys() -> tuple[PublicKey, ...]:
    """Return the keys of ARGOSY_TRUST, one of which must have signed every artefact; empty if it is unset.

    Raises UsageError if one of them is neither a public key nor the file of one.
    """
    return tuple(read_public_key(word) for word in env.TRUST.get())


def read_public_key(word: str) -> PublicKey:
    """Return the public key that `word` is, 56 characters that begin with RW, or that is in the file it names."""
    minisign = _minisign()
    try:
        if _KEY_TEXT.fullmatch(word):
            return minisign.PublicKey.from_base64(word)
        return minisign.PublicKey.from_bytes(_read(Path(word).expanduser(), UsageError))
    except minisign.Error as error:
        sentence = f"`{one_line(word)}` is not a public key of minisign: {one_line(error)}"
        raise UsageError(sentence, "`argosy sign --new-key FILE` makes a pair, the public one in FILE.pub") from None


def read_secret_key(path: Path, ask_password: Callable[[], str]) -> SecretKey:
    """Read a secret key; `ask_password` is called if it is encrypted."""
    minisign = _minisign()
    hint = "`argosy sign --new-key FILE` makes a key"
    if not path.exists():
        raise UsageError(f"there is no key `{path_line(path)}`", hint)
    data = _read(path, UsageError)
    try:
        key = minisign.SecretKey.from_bytes(data)
        if key.is_encrypted():
            key.decrypt(ask_password())
    except minisign.Error as error:
        raise UsageError(f"`{path_line(path)}` cannot be used for signing: {one_line(error)}", hint) from None
    return key


def make_key(path: Path, password: str) -> PublicKey:
    """Write a new secret key to `path`, encrypted unless `password` is empty, and its public part beside it as `.pub`.

    Raises UsageError if one of the files exists: a key that is overwritten is lost.
    """
    minisign = _minisign()
    public_path = public_key_path(path)
    for existing in (path, public_path):
        if existing.exists():
            raise UsageError(f"`{path_line(existing)}` exists already", "choose another name for the key")
    pair = minisign.KeyPair.generate()
    if password:
        pair.secret_key.encrypt(password)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ArgosyError(f"`{path_line(path)}` cannot be written: {error.strerror}", "choose another place") from None
    with open(descriptor, "wb") as file:
        file.write(bytes(pair.secret_key))
    write_bytes_atomic(public_path, bytes(pair.public_key) + b"\n")
    return pair.public_key


def public_key_path(path: Path) -> Path:
    """Return where the public part of the secret key at `path` is."""
    return path.with_name(path.name + ".pub")


def signature_path(file: Path) -> Path:
    """Return where the signature of `file` is."""
    return file.with_name(file.name + SIGNATURE_SUFFIX)


def sign(file: Path, data: bytes, key: SecretKey, comment: str) -> None:
    """Sign `data`, the content of `file`; `comment` is signed with it."""
    signature = key.sign(data, untrusted_comment="signature of an Argosy artefact", trusted_comment=comment)
    write_bytes_atomic(signature_path(file), bytes(signature) + b"\n")


def check_signature(file: Path, data: bytes, keys: Sequence[PublicKey], hint: str | None = None) -> str:
    """Check that one of `keys` has signed `data`, the content of `file`, and return the comment that it signed.

    Raises ArtefactError if there is no signature, or it is not sound.
    """
    minisign = _minisign()
    path = signature_path(file)
    hint = hint or "ARGOSY_TRUST lists the keys that count; `argosy sign DIR --key KEY` signs"
    if not os.path.lexists(path):
        raise ArtefactError(f"`{path_line(file.parent)}` is not signed, and a signature is demanded", hint)
    try:
        signature = minisign.Signature.from_bytes(_read(path, ArtefactError))
    except minisign.Error as error:
        raise ArtefactError(f"`{path_line(path)}` is not a signature: {one_line(error)}", hint) from None
    for key in keys:
        try:
            key.verify(data, signature)
        except minisign.Error:
            continue
        return str(signature.trusted_comment)
    raise ArtefactError(f"`{path_line(path)}` is not a signature of this manifest by a trusted key", hint)


def key_text(key: PublicKey) -> str:
    """Return a public key as ARGOSY_TRUST takes it."""
    return key.to_base64().decode()


def _read(path: Path, error: type[ArgosyError]) -> bytes:
    with BoundedFile(path, error) as file:
        return file.read_all(_MAX_BYTES)


def warn_readable_by_others(path: Path) -> str | None:
    """Return a warning if others than its owner may read the secret key at `path`."""
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return f"`{path_line(path)}` can be read by other users; `chmod 600` it"
    return None


def _minisign() -> Any:
    """Import the library of signatures, which only those need who sign, or set ARGOSY_TRUST."""
    try:
        import minisign
    except ImportError:
        raise ArgosyError("signatures need the package `py-minisign`, which is not installed", _INSTALL) from None
    return minisign
