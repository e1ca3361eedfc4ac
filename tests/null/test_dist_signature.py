"""Artefacts are signed in minisign's format, and opened only with a signature where one is demanded."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from minisign import KeyPair
from test_dist_artefact import open_build, pristine  # noqa: F401 - a fixture

from argosy.dist.artefact import open_artefact
from argosy.dist.manifest import MANIFEST_NAME, read_manifest, sign_manifest, verify_directory
from argosy.dist.signature import key_text, make_key, public_key_path, read_public_key, read_secret_key, signature_path
from argosy.support.errors import ArgosyError, ArtefactError, UsageError


def no_password() -> str:
    raise AssertionError("a password was asked for")


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "mine.key", "")
    return tmp_path / "mine.key"


@pytest.fixture
def signed(pristine: Path, key: Path, tmp_path: Path) -> Path:  # noqa: F811
    directory = Path(shutil.copytree(pristine, tmp_path / "tiny-q4f16_1"))
    sign_manifest(directory, read_secret_key(key, no_password))
    return directory


def demand(monkeypatch: pytest.MonkeyPatch, *keys: object) -> None:
    monkeypatch.setenv("ARGOSY_TRUST", ",".join(map(str, keys)))


def test_a_key_is_private_and_never_overwritten(key: Path) -> None:
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key_text(read_public_key(str(public_key_path(key)))).startswith("RW")
    before = key.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        make_key(key, "")
    key.unlink()
    with pytest.raises(UsageError, match=r"mine\.key\.pub` exists already"):
        make_key(key, "")
    key.write_bytes(before)


def test_an_encrypted_key_needs_its_password(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    public = make_key(path, "correct horse")
    assert read_secret_key(path, lambda: "correct horse").get_public_key() == public
    with pytest.raises(UsageError, match="wrong password"):
        read_secret_key(path, lambda: "battery staple")


def test_what_a_trusted_key_signed_is_opened(signed: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_directory(signed).signed
    public = public_key_path(key)
    for word in (public, key_text(read_public_key(str(public)))):
        demand(monkeypatch, key_text(KeyPair.generate().public_key), word)
        assert open_artefact(signed).manifest is not None


def drop_signature(directory: Path) -> None:
    signature_path(directory / MANIFEST_NAME).unlink()


def change_manifest(directory: Path) -> None:
    path = directory / MANIFEST_NAME
    path.write_text(path.read_text().replace('"model": "tiny"', '"model": "tinz"'))


def change_signature(directory: Path) -> None:
    path = signature_path(directory / MANIFEST_NAME)
    path.write_bytes(path.read_bytes().replace(b"tiny", b"tinz"))


def spoil_signature(directory: Path) -> None:
    signature_path(directory / MANIFEST_NAME).write_bytes(b"\xff\n" * 4)


def fill_signature(directory: Path) -> None:
    signature_path(directory / MANIFEST_NAME).write_bytes(b"x" * 1_000_000)


def drop_manifest(directory: Path) -> None:
    (directory / MANIFEST_NAME).unlink()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_signature, "is not signed"),
        (change_manifest, "not a signature of this manifest by a trusted key"),
        (change_signature, "not a signature of this manifest by a trusted key"),
        (spoil_signature, "is not a signature"),
        (fill_signature, "is larger than"),
        (drop_manifest, "ARGOSY_TRUST demands it"),
    ],
)
def test_anything_else_is_refused(
    signed: Path, key: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], words: str
) -> None:
    change(signed)
    demand(monkeypatch, public_key_path(key))
    with pytest.raises(ArtefactError, match=words) as caught:
        open_artefact(signed)
    assert "\n" not in caught.value.message and caught.value.hint


def test_another_key_is_refused(signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demand(monkeypatch, key_text(KeyPair.generate().public_key))
    with pytest.raises(ArtefactError, match="by a trusted key"):
        open_artefact(signed)


@pytest.mark.parametrize("word", ["nothing-here.pub", "RW" + "A" * 54 + "x", "/dev/null", "."])
def test_what_is_no_key_is_refused(word: str) -> None:
    with pytest.raises(ArgosyError) as caught:
        read_public_key(word)
    assert "\n" not in caught.value.message and caught.value.hint


def test_nothing_altered_is_signed(signed: Path, key: Path) -> None:
    shard = next(signed.glob("params_shard_*"))
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(ArtefactError, match="was altered"):
        sign_manifest(signed, read_secret_key(key, no_password))
    with pytest.raises(ArtefactError, match="was altered"):
        verify_directory(signed)


def test_a_new_manifest_has_no_old_signature(signed: Path) -> None:
    with open_build(signed) as build:
        assert build.manifest.libraries
        build.publish_library(
            build.library_path("cpu"), build.manifest.libraries["cpu"].target, key="other",
            weights_layout=build.manifest.libraries["cpu"].weights_layout, spec_digest="s",
        )  # fmt: skip
    assert not signature_path(signed / MANIFEST_NAME).exists()
    assert read_manifest(signed).libraries["cpu"].key == "other"


def test_a_signing_build_reuses_nothing_that_its_key_did_not_sign(signed: Path, key: Path) -> None:
    from argosy.dist.build_directory import open_build_directory

    def stages(*keys: object) -> object:
        with open_build_directory(
            signed, model="tiny", quantization="q4f16_1", checkpoint_digest="d0", keys=keys
        ) as build:
            return build.manifest.weights

    assert stages(read_public_key(str(public_key_path(key)))) is not None
    assert stages(KeyPair.generate().public_key) is None
