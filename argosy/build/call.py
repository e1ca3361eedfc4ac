"""Make a build request of the arguments that a Python program gives."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argosy.build.request import BuildRequest
from argosy.support.errors import UsageError
from argosy.support.progress import Progress, SilentProgress, open_progress
from argosy.support.text import did_you_mean, one_line


def request_for(
    model: str | os.PathLike[str],
    target: str | Sequence[str],
    output: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> BuildRequest:
    """Return the request, with the further `options` of `BuildRequest`. Raises UsageError for what is none."""
    known = [field.name for field in dataclasses.fields(BuildRequest)]
    for name in options:
        if name not in known:
            raise UsageError(f"`{one_line(name)}` is not an option of a build", did_you_mean(name, known))
    for name, value in (("model", model), ("output", output)):
        if not isinstance(value, str | os.PathLike) and (name == "model" or value is not None):
            raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be a name or a path")
    targets = tuple(target.split(",")) if isinstance(target, str) else tuple(target)
    return BuildRequest(
        os.fsdecode(model), targets, output=None if output is None else Path(os.fsdecode(output)), **options
    )


@contextmanager
def shown_progress(progress: bool | Progress) -> Iterator[Progress]:
    """Yield where to report: to stderr for True, nowhere for False."""
    if not isinstance(progress, bool):
        yield progress
    elif progress:
        with open_progress() as shown:
            yield shown
    else:
        yield SilentProgress()
