"""One row of what `argosy doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Need: TypeAlias = Literal["running", "building", "nothing"]


@dataclass(frozen=True, slots=True)
class Check:
    """The result of looking at one thing.

    `needed_for` says what does not work while `ok` is false, `bytes` how much memory or disk space is available.
    """

    name: str
    ok: bool
    detail: str
    needed_for: Need = "nothing"
    remedy: str | None = None
    bytes: int | None = None
