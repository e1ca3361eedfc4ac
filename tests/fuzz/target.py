"""A reader to fuzz.

`use` returns for an input that is accepted and means what a reference reader says, and raises an ArgosyError for one
that is refused. Anything else that it raises is a fault.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.file_bytes import Gguf

Genome = bytes | Gguf
Files = Mapping[str, bytes]


class WrongReadError(AssertionError):
    """An input was accepted, and read as something other than what it holds."""


@dataclass(frozen=True)
class Target:
    """One reader. `render` makes the files of a genome; `share` is its part of all inputs."""

    name: str
    share: float
    seeds: Callable[[], Sequence[Genome]]
    change: Callable[[Genome, random.Random], Genome]
    render: Callable[[Genome], Files]
    use: Callable[[Path], None]


def expect(truth: bool, *what: object) -> None:
    """Raise WrongReadError if a read is not right."""
    if not truth:
        raise WrongReadError(*what)


def data_of(genome: Genome) -> bytes:
    """Return a genome that is bytes."""
    assert isinstance(genome, bytes)
    return genome
