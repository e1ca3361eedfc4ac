"""`python -m argosy.cli`: the same as the `argosy` script, for where scripts are not on the path."""

from argosy.cli import main

main()
