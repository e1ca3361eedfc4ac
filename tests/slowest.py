"""Write the table of the slowest tests in docs/testing.md, from JUnit reports of pytest.

    python tests/slowest.py dist/out/tests/*.xml

`--print` leaves the page alone and prints the table.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "testing.md"
SHOWN = 15
_MEASURED = re.compile(r"(<!-- measured: slowest -->\n).*?(<!-- end measured -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class TestTime:
    """How long a test took with its fixtures, in seconds."""

    file: str
    name: str
    seconds: float


def read_times(reports: Iterable[Path]) -> list[TestTime]:
    """The tests in JUnit reports, slowest first."""
    times = []
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            parts = case.attrib["classname"].split(".")
            if parts == [""]:  # a file that was skipped whole
                continue
            times.append(TestTime("/".join(parts) + ".py", case.attrib["name"], float(case.attrib["time"])))
    return sorted(times, key=lambda time: (-time.seconds, time.file, time.name))


def measured(times: Sequence[TestTime], where: str) -> str:
    """The part of the page that was measured, as Markdown: `where` and when, the folders, the slowest tests."""
    total = sum(time.seconds for time in times)
    lines = [f"{where}: {len(times)} tests, {total / 60:.0f} minutes.", ""]
    lines += ["| folder | tests | seconds |", "| --- | --- | --- |"]
    folders = sorted({_folder(time) for time in times})
    for folder in folders:
        seconds = [time.seconds for time in times if _folder(time) == folder]
        lines.append(f"| `{folder}` | {len(seconds)} | {sum(seconds):.0f} |")
    lines += ["", "| slowest tests | seconds |", "| --- | --- |"]
    for time in times[:SHOWN]:
        name = time.name.replace("|", "\\|")
        lines.append(f"| `{time.file.removeprefix('tests/')}::{name}` | {time.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def _folder(time: TestTime) -> str:
    return "/".join(time.file.split("/")[:2])


def this_run() -> str:
    """The date, the commit and the kind of machine."""
    command = ("git", "rev-parse", "--short", "HEAD")
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    info = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    processor = model[1] if model else platform.machine()
    return f"{datetime.date.today().isoformat()}, commit `{commit}`, {os.cpu_count()} cores of {processor}"


def main() -> None:
    """Fill the page's table, or print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT.xml")
    parser.add_argument("--print", action="store_true", help="print the table instead of writing it")
    options = parser.parse_args()
    table = measured(read_times(options.reports), this_run())
    if options.print:
        print(table)
    else:
        text = PAGE.read_text("utf-8")
        assert _MEASURED.search(text), f"{PAGE} has no place for the table"
        PAGE.write_text(_MEASURED.sub(lambda found: found[1] + table + found[2], text), "utf-8")


if __name__ == "__main__":
    main()
