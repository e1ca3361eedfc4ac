"""An unmodified `@mlc-ai/web-llm` from npm chats with an Argosy artefact in Chromium."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from web.machine import LAVAPIPE_GPU, Serve, drive, missing_chromium, missing_float16_chromium
from web.tiny_artefacts import Artefact

from argosy import ChatModule
from argosy.dist.manifest import read_manifest

REASON, NO_FLOAT16 = missing_chromium(), missing_float16_chromium()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

SYSTEM = "Be brief."
QUESTION = "Hello, world!"
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
GREEDY = {"messages": MESSAGES, "temperature": 0, "max_tokens": 24}
PENALTIES = {"repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.5}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green"]}, "sure": {"type": "boolean"}},
    "required": ["colour", "sure"],
    "additionalProperties": False,
}
REQUESTS: dict[str, dict[str, Any]] = {
    "whole": GREEDY,
    "stream": {**GREEDY, "stream": True},
    "penalties": {**GREEDY, **PENALTIES},
    # WebLLM reports log-probabilities at the sampling temperature.
    "logprobs": {**GREEDY, "temperature": 1, "top_p": 0.01, "logprobs": True, "top_logprobs": 3},
    "sampled": {**GREEDY, "temperature": 1.5, "top_p": 0.9, "seed": 7},
    "sampled again": {**GREEDY, "temperature": 1.5, "top_p": 0.9, "seed": 7},
    "biased": {**GREEDY, "max_tokens": 4, "logit_bias": {"56": 100}},
    "schema": {**GREEDY, "max_tokens": 200, "response_format": {"type": "json_object", "schema": json.dumps(SCHEMA)}},
}


@pytest.fixture(scope="module")
def directory(tiny_artefact: Artefact) -> Path:
    return tiny_artefact("q0f32")


@pytest.fixture(scope="module")
def replies(directory: Path, serve: Serve) -> dict[str, Any]:
    """WebLLM's answers to `REQUESTS`, in one session."""
    return dict(zip(REQUESTS, answers(directory, serve, list(REQUESTS.values())), strict=True))


def answers(directory: Path, serve: Serve, requests: list[Any], **more: Any) -> list[Any]:
    """Answer `requests` with WebLLM and the artefact in `directory`."""
    library = read_manifest(directory).libraries["webgpu"].file
    seen = drive("webllm", timeout=240, url=serve(directory), library=library, requests=requests, **more)
    assert seen["errors"] == []
    assert any("Finish loading" in report for report in seen["reports"])
    return list(seen["replies"])


@pytest.fixture(scope="module")
def chat(directory: Path) -> ChatModule:
    return ChatModule(directory, target="cpu", system=SYSTEM)


def on_cpu(chat: ChatModule, **settings: Any) -> str:
    chat.reset_chat()
    return chat.generate(QUESTION, generation_config={"temperature": 0.0, "max_tokens": 24, **settings})


def test_it_says_what_the_cpu_says(replies: dict[str, Any], chat: ChatModule) -> None:
    expected = on_cpu(chat)
    assert len(set(expected)) > 8, "an answer that repeats itself proves little"
    assert replies["whole"]["text"] == expected
    assert replies["whole"]["finishReason"] == "length"


def test_it_streams(replies: dict[str, Any]) -> None:
    assert len(replies["stream"]["pieces"]) > 4
    assert replies["stream"]["text"] == replies["whole"]["text"]


def test_penalties_make_it_repeat_itself_less(replies: dict[str, Any]) -> None:
    assert len(set(replies["penalties"]["text"])) > len(set(replies["whole"]["text"]))


def test_logprobs_are_those_of_the_cpu(replies: dict[str, Any], chat: ChatModule) -> None:
    on_cpu(chat, logprobs=True, top_logprobs=1)
    assert chat.last is not None
    expected = [token.logprob for token in chat.last.logprobs]
    content = replies["logprobs"]["logprobs"]["content"]
    assert [token["logprob"] for token in content] == pytest.approx(expected, abs=1e-2)
    assert all(len(token["top_logprobs"]) == 3 for token in content)


def test_sampling_follows_its_seed(replies: dict[str, Any]) -> None:
    assert replies["sampled"]["text"] == replies["sampled again"]["text"]
    assert replies["sampled"]["text"] != replies["whole"]["text"]


def test_a_bias_decides(replies: dict[str, Any], chat: ChatModule) -> None:
    assert replies["biased"]["text"] == chat.tokenizer.decode([56]) * 4


def test_a_schema_is_kept(replies: dict[str, Any]) -> None:
    said = json.loads(replies["schema"]["text"])
    assert said.keys() == {"colour", "sure"}
    assert said["colour"] in ("red", "green") and isinstance(said["sure"], bool)


@pytest.mark.skipif(NO_FLOAT16 is not None, reason=str(NO_FLOAT16))
def test_it_says_in_float16_what_the_cpu_says(tiny_artefact: Artefact, serve: Serve) -> None:
    """Rounding may make the answers differ, but not before the eighth token; a token is a letter."""
    requests = [REQUESTS["stream"], REQUESTS["sampled"], REQUESTS["schema"]]
    more = {"driver": LAVAPIPE_GPU, "features": ["shader-f16"]}
    directory = tiny_artefact("q4f16_1")
    streamed, sampled, schema = answers(directory, serve, requests, **more)
    exact = on_cpu(ChatModule(directory, target="cpu", system=SYSTEM))
    assert streamed["text"][:8] == exact[:8]
    assert sampled["finishReason"] == "length" and sampled["text"] != streamed["text"]
    assert json.loads(schema["text"]).keys() == {"colour", "sure"}
