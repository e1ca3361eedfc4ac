"""What a caller may choose about a build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Stage: TypeAlias = Literal["weights", "config", "library"]
STAGES: tuple[Stage, ...] = ("weights", "config", "library")
ROUNDINGS = ("full", "rtn")


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """The options of a build; None leaves the choice to the model, the scheme or the target.

    `force` also runs stages that are up to date.
    """

    model: str
    targets: tuple[str, ...] = ("cpu",)
    quantization: str = "q4f16_1"
    rounding: str = "full"
    context_window: int | None = None
    prefill_chunk: int | None = None
    max_batch: int | None = None
    activations: str | None = None
    kv: str | None = None
    output: Path | None = None
    force: bool = False
    debug_dump: Path | None = None

    def target_options(self) -> dict[str, str]:
        """Return the options that only some targets take, as far as they are set."""
        options = {"activations": self.activations, "kv": self.kv}
        return {name: value for name, value in options.items() if value is not None}
