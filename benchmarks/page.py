"""Write `docs/performance.md` from the JSON of `argosy bench`.

    argosy bench smollm2-135m-q4f16_1 --vs llama.cpp --build --json bench.json --plot docs/performance.svg
    python benchmarks/browser.py --output dist/out/bench/web.json --markdown web.md
    python benchmarks/page.py bench.json web.md > docs/performance.md

Files of Markdown, such as a browser's, are appended as further sections.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from argosy.bench.run import SCHEMA
from argosy.bench.tables import markdown, setting, tables

HOW = """\
Engines stay loaded and take turns, request by request, on the same token ids with the same number of threads; the first
turn of each case warms up and is not counted. llama.cpp and OpenVINO GenAI run with their own defaults, on the GGUF
file as it ships and on a copy in which every matrix, including embedding and output, has the bits of our scheme.
Absolute figures of a shared machine drift: compare ratios. Where the time goes: [profile.md](profile.md)."""


def page(report: dict[str, Any], sections: Sequence[str] = ()) -> str:
    """Return the whole page, ending with `sections` of Markdown."""
    return "\n\n".join([*_parts(report), *sections])


def _parts(report: dict[str, Any]) -> Iterator[str]:
    yield "# Performance"
    builds = [f"{engine['command']}" for engine in report["engines"] if engine["program"] == "argosy"]
    yield "Measured by:"
    yield "\n".join(["```sh", *builds, report["command"], "```"])
    yield HOW
    yield setting(report)
    if "plot" in report:
        yield f"![Tokens per second of each program, as bars]({report['plot']})"
    yield from (markdown(table) for table in tables(report))


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"error: `{name}` cannot be read: {error}")


def main() -> None:
    """Run the command line."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    name, *others = sys.argv[1:]
    try:
        report = json.loads(_read(name))
    except ValueError as error:
        sys.exit(f"error: `{name}` is not JSON: {error}")
    if report.get("schema") != SCHEMA:
        sys.exit(f"error: `{name}` has schema {report.get('schema')}, not {SCHEMA}: measure again")
    print(page(report, [_read(other).strip() for other in others]))


if __name__ == "__main__":
    main()
