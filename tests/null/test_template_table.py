"""A table of templates has the same verdicts in Python and TypeScript: the text that they write, or a refusal within
bounds of work and memory. `runtime_bindings/web/test/unit/template.test.ts` reads it as well."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from argosy.runtime_bindings.chat.sandbox_budget import CALL, ITEM, LIMITS
from argosy.runtime_bindings.chat.template import ChatTemplate
from argosy.support.errors import ArgosyError

ROOT = Path(__file__).resolve().parents[2]
TABLE = json.loads((ROOT / "tests" / "templates.json").read_text("utf-8"))
ROWS: list[dict[str, Any]] = TABLE["templates"]
WRITTEN = [row for row in ROWS if "output" in row]
REFUSED = [row for row in ROWS if "output" not in row]
MESSAGES, VARIABLES = TABLE["messages"], TABLE["variables"]
REPEATED_TURNS = [{"role": "user", "content": "word " * 40}, {"role": "assistant", "content": "answer\n" * 30}]


def expanded(row: dict[str, Any]) -> str:
    text, count = row.get("repeat", ["", 0])
    return str(row["source"]).replace("@", text * count) if count else str(row["source"])


def test_table_is_large_enough() -> None:
    assert len(ROWS) >= 300 and len(REFUSED) >= 170


@pytest.mark.parametrize("row", WRITTEN, ids=lambda row: row["source"][:60])
def test_template_writes_what_it_writes_in_transformers(row: dict[str, Any]) -> None:
    pytest.importorskip("transformers", reason="transformers is the reference")
    from transformers.utils.chat_template_utils import render_jinja_template

    source = expanded(row)
    assert ChatTemplate(source).render(MESSAGES, **VARIABLES) == row["output"]
    if "__" not in source:  # where the sandboxes may differ
        expected = render_jinja_template([MESSAGES], chat_template=source, add_generation_prompt=True, **VARIABLES)
        assert expected[0][0] == row["output"]


def refuse_all() -> None:
    """Refuse the hostile rows in this process, and write the slowest of them and the memory that all took."""
    slowest = (0.0, "")
    for row in REFUSED:
        started = time.process_time()
        try:
            ChatTemplate(expanded(row)).render(MESSAGES, **VARIABLES)
            outcome = "rendered"
        except ArgosyError as error:
            outcome = "" if "\n" not in error.message and len(error.message) < 300 else error.message
        if outcome:
            raise SystemExit(f"{outcome}: {row['source'][:200]}")
        slowest = max(slowest, (time.process_time() - started, row["source"][:200]))
    print(json.dumps({"slowest": slowest, "kilobytes": peak_kilobytes()}))


def peak_kilobytes() -> int:
    """Return the peak of this process's memory. `ru_maxrss` begins with that of the process that started it."""
    return int(re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1])  # type: ignore[index]


def test_hostile_templates_are_refused_within_a_second_and_200_megabytes() -> None:
    code = "from null.test_template_table import refuse_all; refuse_all()"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT / "tests"
    )
    assert process.returncode == 0, process.stderr[-2000:]
    seconds, source = json.loads(process.stdout)["slowest"]
    assert seconds < 3, source  # of the processor, which other work slows down; alone it is a third of it
    assert json.loads(process.stdout)["kilobytes"] < 300_000  # with the interpreter and its modules


@pytest.mark.parametrize(
    "source",
    ["{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}",
     "{%- set ns = namespace(out='') %}{% for m in messages %}{% set ns.out = ns.out ~ m.content %}{% endfor %}"
     "{{ ns.out }}",
     "{% for m in messages %}{% if messages[loop.index0:] | selectattr('role', 'equalto', 'user') | list | length "
     "> 0 %}{{ m.content.split('\n')[-1] }}{% endif %}{% endfor %}",
     "{% macro show(m) %}{{ '%s: %s' % (m.role, m.content.replace('a', 'b')) }}{% endmacro %}"
     "{% for m in messages %}{{ show(m) }}{{ m | tojson(indent=2) }}{% endfor %}"],
)  # fmt: skip
def test_long_conversations_stay_within_the_bounds(source: str) -> None:
    messages = REPEATED_TURNS * 150
    assert sum(len(message["content"]) for message in messages) > 60_000
    rendered = ChatTemplate(source).render(messages)
    assert rendered
    one = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}").render(
        [{"role": "user", "content": "x" * 5_000_000}]
    )
    assert len(one) == 5_000_000


def test_limits_in_typescript_are_the_same() -> None:
    text = (ROOT / "runtime_bindings" / "web" / "src" / "template" / "limits.ts").read_text("utf-8")
    written = {name: int(value) for name, value in re.findall(r"^  (\w+): (\d+),$", text, flags=re.M)}
    assert written == LIMITS
    assert {
        name: int(value) for name, value in re.findall(r"const (CALL|ITEM) = (\d+)", text)
    } == {"CALL": CALL, "ITEM": ITEM}
