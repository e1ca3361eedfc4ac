"""The examples of docs/python.md and docs/recipes.md, and the server of examples/python, run on a tiny model."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import save_checkpoint

import argosy
from argosy.model_defs.families import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
PAGE = "".join((ROOT / "docs" / name).read_text("utf-8") for name in ("python.md", "recipes.md"))
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny model under the name of the demo model."""
    root = tmp_path_factory.mktemp("page")
    config = {**FAMILIES["llama"].tiny_config, "max_position_embeddings": 1024}
    checkpoint = save_checkpoint(root / "smollm2-135m", config=config)
    report = argosy.build(checkpoint, output=root / "store" / "smollm2-135m-q4f16_1", progress=False)
    assert report.complete and Path(report) == report.directory
    return report.directory.parent


@pytest.fixture
def demo(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo model is found by its name, from any directory."""
    monkeypatch.setenv("ARGOSY_DIST", str(store))
    monkeypatch.chdir("/")


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(demo: None, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(EXAMPLES[number], f"example {number}", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


def test_there_is_an_example_for_every_section() -> None:
    assert len(EXAMPLES) >= 9


def ask(application: Any, body: bytes, leave_after: int | None = None) -> tuple[int, list[dict[str, Any]]]:
    """Send a request; return the status and the events. The client goes away after `leave_after` events."""
    sent: list[dict[str, Any]] = []
    gone = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if not sent and not ask.read:  # type: ignore[attr-defined]
            ask.read = True  # type: ignore[attr-defined]
            return {"type": "http.request", "body": body}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if leave_after is not None and len(sent) > leave_after:
            gone.set()

    ask.read = False  # type: ignore[attr-defined]

    async def run() -> None:
        await asyncio.wait_for(application({"type": "http"}, receive, send), 60)

    asyncio.run(run())
    text = b"".join(message.get("body", b"") for message in sent[1:]).decode()
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    return sent[0]["status"], [json.loads(line) for line in lines]


def test_the_server_streams_refuses_and_ends_the_answer_of_a_client_that_left(demo: None) -> None:
    application = runpy.run_path(str(ROOT / "examples" / "python" / "server.py"))["application"]
    question = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "ignore_eos": True}
    status, events = ask(application, json.dumps(question | {"max_tokens": 5}).encode())
    assert status == 200 and "".join(event["text"] for event in events[:-1])
    assert events[-1] == {"finish_reason": "length"}
    status, events = ask(application, json.dumps(question | {"max_tokens": 100}).encode(), leave_after=3)
    assert status == 200 and "finish_reason" not in events[-1], "it was cut off"
    for body, word in ((b"x", "JSON"), (json.dumps(question | {"heat": 1}).encode(), "`heat`")):
        status, (error,) = ask(application, body)
        assert status == 400 and word in error["error"]
