"""The command line: arguments go in, an exit code comes out. `argosy.cli:main` is what the `argosy` script calls."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process and exit with its code."""
    from argosy.cli.app import cli

    cli.main(prog_name="argosy", obj="a process of its own")
