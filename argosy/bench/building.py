"""Build a recipe from scratch in this process, and print seconds and peak memory as JSON.

python -m argosy.bench.building '{"model": ..., "quantization": ..., ...}' DIRECTORY
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


class Stopwatch:
    """A `Progress` that records the duration of linking and the peak memory of converting weights."""

    def __init__(self) -> None:
        self.link_began = 0.0
        self.link: float | None = None
        self.convert_peak = 0

    def report(self, stage: str, done: int, total: int, unit: str = "steps") -> None:
        """Time linking, which is the last step of the stage `compile for ...`."""
        from argosy.runtime_bindings.engine.memory import memory_use

        if stage == "convert weights":
            self.convert_peak = memory_use().peak
        if stage.startswith("compile") and done == total - 1:
            self.link_began = time.perf_counter()
        if stage.startswith("compile") and done == total:
            self.link = time.perf_counter() - self.link_began


def measure(recipe: dict[str, Any], directory: str) -> dict[str, Any]:
    """Build `recipe` in `directory`; return seconds by stage, peak memory of converting and of the whole, and sizes."""
    from argosy.build import BuildRequest, build
    from argosy.runtime_bindings.engine.memory import memory_use

    watch = Stopwatch()
    fields = {**recipe, "targets": tuple(recipe["targets"])}
    report = build(BuildRequest(**fields, output=Path(directory)), watch)
    stages = {stage.stage: stage for stage in report.stages}
    assert watch.link is not None, "no link step was reported"
    return {
        "stages": {
            "convert": stages["weights"].seconds,
            "config": stages["config"].seconds,
            "compile": stages["library"].seconds - watch.link,
            "link": watch.link,
        },
        "peak_bytes": {"convert": watch.convert_peak, "build": memory_use().peak},
        "sizes": {"weights": stages["weights"].nbytes, "library": stages["library"].nbytes},
    }


def main() -> None:
    """Run the command line."""
    from argosy.support.errors import ArgosyError

    try:
        print(json.dumps(measure(json.loads(sys.argv[1]), sys.argv[2])))
    except ArgosyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
