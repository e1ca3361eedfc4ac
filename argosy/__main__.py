"""Run the command line with `python -m argosy`, where the `argosy` script is not on the path."""

from argosy.cli import main

main()
