"""The command line; the `argosy` script calls `main`."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process and exit with its exit code."""
    from argosy.cli.app import cli
    from argosy.cli.console import prepare_streams

    prepare_streams()
    cli.main(prog_name="argosy", obj="a process of its own")
