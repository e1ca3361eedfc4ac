"""What a caller may choose about a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["weights", "config", "library"]
STAGES: tuple[Stage, ...] = ("weights", "config", "library")
ROUNDINGS = ("full", "rtn")
ACTIVATIONS = ("int8", "int16", "f32")
KV_DTYPES = ("f16", "f32")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The options of a build; None leaves the choice to the model or the scheme.

    `force` also runs stages that are up to date.
    """

    model: str
    targets: tuple[str, ...] = ("cpu",)
    quantization: str = "q4f16_1"
    rounding: str = "full"
    context_window: int | None = None
    prefill_chunk: int | None = None
    max_batch: int | None = None
    activations: str | None = None  # None: what the scheme recommends
    kv: str = "f16"
    output: Path | None = None
    force: bool = False
    debug_dump: Path | None = None
