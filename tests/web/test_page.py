"""The chat page of `argosy web` in Chromium: a visit from the first load to being offline, and every kind of failure.

Screenshots are in dist/out/web/.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from web.machine import KEPT, Serve, drive, missing_chromium, served
from web.tiny_artefacts import Artefact, only_in_float16

from argosy import ChatModule

REASON = missing_chromium()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

QUESTION = "Hello, world!"
LENGTH = 48


@pytest.fixture(scope="module")
def kept() -> Path:
    KEPT.mkdir(parents=True, exist_ok=True)
    return KEPT


@pytest.fixture(scope="module")
def visit(tiny_artefact: Artefact, kept: Path) -> Any:
    """The report of one long visit, during which the server is stopped."""
    settings = {"temperature": 0, "max_tokens": LENGTH}
    with served(tiny_artefact("q0f32")) as server:
        return drive(
            "page", timeout=400, url=server.url, server=server.pid, kept=kept, question=QUESTION, settings=settings
        )


@pytest.fixture(scope="module")
def expected(tiny_artefact: Artefact) -> str:
    """The CPU's answer, with spaces collapsed as on a page."""
    chat = ChatModule(tiny_artefact("q0f32"), target="cpu")
    text = chat.generate(QUESTION, generation_config={"temperature": 0.0, "max_tokens": LENGTH})
    return " ".join(text.split())


def test_loading_is_shown(visit: Any) -> None:
    values = [step["value"] for step in visit["load"]["progress"]]
    assert len(set(values)) > 2, "the bar did not move"
    assert values == sorted(values), "the bar went back"
    assert len({step["stage"] for step in visit["load"]["progress"]}) > 1
    assert any("B" in step["detail"] for step in visit["load"]["progress"]), "no bytes were reported"


def test_the_answer_is_that_of_the_cpu(visit: Any, expected: str) -> None:
    assert visit["first"]["text"] == expected
    assert str(LENGTH) in visit["first"]["stats"] and "tokens/s" in visit["first"]["stats"]


def test_the_answer_is_streamed(visit: Any) -> None:
    texts = visit["first"]["texts"]
    assert len(texts) > 3
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_escape_stops(visit: Any, expected: str) -> None:
    assert visit["stopped"]["wasRunning"]
    assert visit["stopped"]["ending"] == "Stopped"
    assert 20 < len(visit["stopped"]["text"]) < 900
    assert visit["turnsBefore"] == 4


def test_a_new_chat_forgets(visit: Any, expected: str) -> None:
    assert visit["turnsAfter"] == 0
    assert visit["again"]["text"] == expected


def test_a_reload_takes_the_model_from_the_browser(visit: Any, expected: str) -> None:
    assert not [url for url in visit["requestsOfReload"] if "params_shard" in url or url.endswith(".wasm")]
    assert visit["reloaded"]["text"] == expected


def test_it_works_offline_once_it_was_loaded(visit: Any, expected: str) -> None:
    assert visit["offlineProbe"] == "offline"
    assert visit["offlineAnswer"]["text"] == expected


def test_it_fits_a_phone(visit: Any) -> None:
    assert visit["phoneOverflow"] <= 0, "the page scrolls sideways"


def test_nothing_keeps_people_from_using_it(visit: Any) -> None:
    """axe-core checks names of controls, contrast and landmarks."""
    assert len(visit["barriers"]) == 5
    assert {name: found for name, found in visit["barriers"].items() if found} == {}


def problem(what: str, url: str, kept: Path) -> Any:
    """The message and hint that the page shows for a fault."""
    seen = drive("problems", timeout=120, url=url, kept=kept, what=what)
    assert seen["state"] == "error" and seen["barriers"] == []
    for text in seen["problem"].values():
        assert text.endswith(".") and "\n" not in text and "undefined" not in text
    return seen


@pytest.mark.parametrize("what", ["no-webgpu", "no-adapter"])
def test_without_webgpu(what: str, tiny_artefact: Artefact, serve: Serve, kept: Path) -> None:
    seen = problem(what, serve(tiny_artefact("q0f32")), kept)
    assert "WebGPU" in seen["problem"]["message"]
    assert re.search("browser|Chrome", seen["problem"]["hint"]), "it says what to do"


def test_without_float16(tiny_artefact: Artefact, tmp_path: Path, kept: Path) -> None:
    with served(only_in_float16(tiny_artefact("q4f16_1"), tmp_path / "halves")) as server:
        seen = problem("no-float16", server.url, kept)
    assert "16-bit" in seen["problem"]["message"]
    assert "argosy build --target webgpu" in seen["problem"]["hint"]


@pytest.mark.parametrize("what", ["truncated", "altered", "unreachable"])
def test_a_bad_download_can_be_tried_again(what: str, tiny_artefact: Artefact, serve: Serve, kept: Path) -> None:
    seen = problem(what, serve(tiny_artefact("q0f32")), kept)
    assert seen["retried"]["state"] == "ready", seen["retried"]["problem"]
