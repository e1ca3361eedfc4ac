"""The table of the slowest tests: what it takes from JUnit reports, and that the page has a place for it."""

from pathlib import Path

from slowest import _MEASURED, PAGE, measured, read_times

REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.test_a" name="test_one[x|y]" time="2.5"/>
<testcase classname="tests.unit.test_a" name="test_two" time="61.0"><skipped/></testcase>
<testcase classname="tests.null.test_b" name="test_three" time="0.01"/>
</testsuite></testsuites>"""


def test_the_slowest_come_first(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text(REPORT)
    lines = measured(read_times([tmp_path / "r.xml"]), "here").splitlines()
    assert lines[0] == "here: 3 tests, 1 minutes."
    assert "| `tests/unit` | 2 | 64 |" in lines and "| `tests/null` | 1 | 0 |" in lines
    assert lines[-3:-1] == ["| `unit/test_a.py::test_two` | 61 |", "| `unit/test_a.py::test_one[x\\|y]` | 2 |"]


def test_the_page_has_a_place_for_the_table() -> None:
    assert len(_MEASURED.findall(PAGE.read_text("utf-8"))) == 1
