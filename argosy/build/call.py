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

NAMES = ("quantization", "rounding", "activations", "kv")
NUMBERS = ("context_window", "prefill_chunk", "max_batch")
OPTIONAL = {field.name for field in dataclasses.fields(BuildRequest) if field.default is None}


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
        if value is None and name == "output":
            continue
        if not isinstance(value, str | os.PathLike) or not os.fspath(value):
            raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be a name or a path")
    targets = tuple(target.split(",")) if isinstance(target, str) else target
    if not isinstance(targets, list | tuple) or not targets or not all(isinstance(name, str) for name in targets):
        raise UsageError(f"`target={one_line(target)}` is not allowed, it must be a name or a list of names")
    for name, value in options.items():
        if value is not None or name not in OPTIONAL:
            _check_option(name, value)
    return BuildRequest(
        os.fsdecode(model), tuple(targets), output=None if output is None else Path(os.fsdecode(output)), **options
    )


def _check_option(name: str, value: object) -> None:
    """Raise UsageError for a value of another type than the option has. Its range is checked by the build."""
    if name in NAMES and not isinstance(value, str):
        raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be a name")
    if name in NUMBERS and (isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31):
        raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be a whole number from 1")
    if name == "force" and not isinstance(value, bool):
        raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be true or false")
    if name == "debug_dump" and not isinstance(value, Path):
        raise UsageError(f"`{name}={one_line(value)}` is not allowed, it must be a `pathlib.Path`")


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
