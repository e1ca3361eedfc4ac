"""`argosy verify`: check every file of an artefact against its manifest, and the manifest's signature."""

from __future__ import annotations

import click

from argosy.cli import console
from argosy.cli.base import command as argosy_command
from argosy.cli.base import json_option


@argosy_command(
    "verify",
    examples=["argosy verify smollm2-135m", "argosy verify ./downloaded --key alice.pub"],
)
@click.argument("artefact", metavar="ARTEFACT")
@click.option(
    "--key", "keys", multiple=True, metavar="KEY",
    help="Demand a signature by this public key, or the key in this file; may be given more than once.  "
    "[default: those of ARGOSY_TRUST]",
)  # fmt: skip
@json_option
def command(artefact: str, keys: tuple[str, ...], as_json: bool) -> None:
    """Check every file of an artefact against its manifest, without running any of its code."""
    from argosy.dist.manifest import verify_directory
    from argosy.dist.signature import read_public_key, trusted_keys
    from argosy.dist.store import find_artefact
    from argosy.support.text import human_size

    demanded = tuple(read_public_key(key) for key in keys) or trusted_keys()
    directory = find_artefact(artefact)
    found = verify_directory(directory, demanded)
    if as_json:
        console.data_json(
            {"directory": str(directory), "files": found.files, "bytes": found.bytes, "signed": found.signed,
             "signature_checked": bool(demanded)}
        )  # fmt: skip
        return
    console.data(f"{directory}: {found.files} files, {human_size(found.bytes)}, all as the manifest says")
    console.data(_signature(found.signed, bool(demanded)))


def _signature(signed: bool, checked: bool) -> str:
    if checked:
        return "signed by a trusted key"
    return "signed; --key KEY checks by whom" if signed else "not signed"
