"""The recorder of terminals places, times and escapes what a program writes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "docs" / "record.py"


@pytest.fixture(scope="module")
def record() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_record", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def shown(screen: object, at: float = 1e9) -> list[str]:
    """Return the lines that the screen shows at a time."""
    lines: dict[int, list[str]] = {}
    for run in sorted(screen.runs, key=lambda run: run.at):  # type: ignore[attr-defined]
        if run.at <= at and (run.until is None or run.until > at):
            line = lines.setdefault(run.row, [])
            line += [" "] * (run.column + len(run.text) - len(line))
            line[run.column : run.column + len(run.text)] = run.text
    return ["".join(lines.get(row, [])) for row in range(max(lines, default=-1) + 1)]


def test_text_is_placed_as_a_terminal_places_it(record: ModuleType) -> None:
    screen = record.Screen(10)
    screen.write("one\r\ntwo \x1b[31mred\x1b[0m\r\n0123456789abc\r\n", 1.0)
    assert shown(screen) == ["one", "two red", "0123456789", "abc"]
    assert [run.style for run in screen.runs if run.text == "red"] == [("fill:#f7768e",)]


def test_a_progress_line_is_overwritten(record: ModuleType) -> None:
    screen = record.Screen(40)
    screen.write("working 10 %", 1.0)
    screen.write("\rworking 99 %", 2.0)
    screen.write("\r\x1b[Kdone\r\n", 3.0)
    assert [shown(screen, at) for at in (0.5, 1.5, 2.5, 3.5)] == [[], ["working 10 %"], ["working 99 %"], ["done"]]
    screen.write("abc\x08\x08X", 4.0)
    assert shown(screen)[-1] == "aXc"


def test_a_recording_is_sound_xml_and_types_at_the_prompt(tmp_path: Path) -> None:
    program = "import time; time.sleep(1); print('<&> ready'); name = input('> '); print('hello', name)"
    path = tmp_path / "recorded.svg"
    subprocess.run(
        [sys.executable, PROGRAM, "--output", path, "--type", "Zo\u00eb", "--prompt", "greet", "--rows", "3", "--",
         sys.executable, "-c", program],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    text = path.read_text("utf-8")
    root = ElementTree.fromstring(text)
    words = "".join("".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text"))
    assert words.index("greet".replace(" ", "")) < words.index("<&> ready") < words.index("hello")
    assert "Zo\u00eb" in words and "@keyframes scroll" in text and "<script" not in text and "href" not in text
