"""`argosy sign`: sign an artefact, or make a key to sign with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from argosy.cli import console
from argosy.cli.base import command as argosy_command

if TYPE_CHECKING:
    from minisign import SecretKey


@argosy_command(
    "sign",
    examples=[
        "argosy sign --new-key ~/.argosy.key",
        "argosy sign smollm2-135m --key ~/.argosy.key",
    ],
)
@click.argument("artefact", required=False, metavar="[ARTEFACT]")
@click.option("--key", type=click.Path(path_type=Path), metavar="FILE", help="Sign with this secret key of minisign.")
@click.option(
    "--new-key", type=click.Path(path_type=Path), metavar="FILE",
    help="Make a secret key in FILE, and its public key in FILE.pub.",
)  # fmt: skip
@click.option("--no-password", is_flag=True, help="With --new-key, do not encrypt the secret key.")
def command(artefact: str | None, key: Path | None, new_key: Path | None, no_password: bool) -> None:
    """Sign an artefact, so that others can demand your signature with ARGOSY_TRUST=FILE.pub.

    Every file of the artefact is checked first. `minisign -V` checks the signature, too.
    """
    if (new_key is not None and (artefact or key)) or (new_key is None and not (artefact and key)):
        raise click.UsageError("give an artefact and --key, or --new-key alone")
    if new_key is not None:
        _make_key(new_key.expanduser(), no_password)
        return
    assert artefact is not None and key is not None
    from argosy.dist.manifest import MANIFEST_NAME, sign_manifest
    from argosy.dist.signature import key_text, signature_path
    from argosy.dist.store import find_artefact

    directory = find_artefact(artefact)
    secret = open_key(key)
    sign_manifest(directory, secret)
    console.say(f"signed: {signature_path(directory / MANIFEST_NAME)}")
    console.say(f"to demand it: ARGOSY_TRUST={key_text(secret.get_public_key())}")


def open_key(path: Path) -> SecretKey:
    """Read the secret key at `path`, asking for its password at the terminal if it is encrypted."""
    from argosy.dist.signature import read_secret_key, warn_readable_by_others

    path = path.expanduser()
    key = read_secret_key(path, _ask_password)
    warning = warn_readable_by_others(path)
    if warning is not None:
        console.say(f"warning: {warning}")
    return key


def _ask_password() -> str:
    from argosy.support.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("the key is encrypted, and there is no terminal to ask for its password", "run it at one")
    return str(click.prompt("password of the key", hide_input=True, err=True))


def _make_key(path: Path, no_password: bool) -> None:
    from argosy.dist.signature import key_text, make_key, public_key_path
    from argosy.support.errors import UsageError

    if no_password:
        password = ""
    elif sys.stdin.isatty():
        password = str(click.prompt("password of the new key", hide_input=True, confirmation_prompt=True, err=True))
    else:
        raise UsageError("there is no terminal to ask for a password", "--no-password makes a key without one")
    public = make_key(path, password)
    console.say(f"secret key: {path}; keep it to yourself")
    console.say(f"public key: {public_key_path(path)}")
    console.data(key_text(public))
