"""The tiny model gives the same tokens in Node, in Chromium and on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from web.machine import (
    LAVAPIPE,
    LAVAPIPE_GPU,
    SWIFTSHADER,
    WEB,
    Serve,
    drive,
    missing_chromium,
    missing_float16_chromium,
    missing_lavapipe,
    missing_node,
    run_node,
)
from web.tiny_artefacts import Artefact, only_in_float16

from argosy import ChatModule

NO_NODE, NO_CHROMIUM = missing_node(), missing_chromium()
NO_LAVAPIPE, NO_FLOAT16_CHROMIUM = missing_lavapipe(), missing_float16_chromium()
needs_node = pytest.mark.skipif(NO_NODE is not None, reason=str(NO_NODE))
needs_chromium = pytest.mark.skipif(NO_CHROMIUM is not None, reason=str(NO_CHROMIUM))
needs_lavapipe = pytest.mark.skipif(NO_LAVAPIPE is not None, reason=str(NO_LAVAPIPE))
needs_float16_chromium = pytest.mark.skipif(NO_FLOAT16_CHROMIUM is not None, reason=str(NO_FLOAT16_CHROMIUM))
in_float32 = pytest.mark.parametrize("quantization", ["q0f32", "q4f32_1"])
in_float16 = pytest.mark.parametrize("quantization", ["q0f16", "q4f16_1"])

# The second turn continues the first, and its prompt is longer than a page of the KV cache.
PROMPTS = ["Hello, world!", "And what else can be said of it?"]
LENGTH = 32
GENERATION = {"temperature": 0, "max_tokens": LENGTH, "ignore_eos": True}
MARGIN = 0.01  # nats between the two best tokens; with less, the transcript would depend on rounding


def expected(directory: Path) -> list[tuple[int, ...]]:
    """The token ids of both answers on the CPU, computed in float32."""
    chat, answers = ChatModule(directory, target="cpu"), []
    for prompt in PROMPTS:
        chat.generate(prompt, generation_config={**GENERATION, "logprobs": True, "top_logprobs": 2})
        assert chat.last is not None and len(chat.last.tokens) == LENGTH
        margins = [first[1] - second[1] for first, second in (logprob.top for logprob in chat.last.logprobs)]
        assert min(margins) > MARGIN, "two tokens are as good as each other"
        assert len(set(chat.last.tokens)) > 8, "an answer that repeats itself proves little"
        answers.append(chat.last.tokens)
    return answers


def in_node(directory: Path, icd: Path = SWIFTSHADER) -> Any:
    runner = WEB / "test" / "node" / "run.mjs"
    return run_node(runner, str(directory), timeout=180, icd=icd, prompts=PROMPTS, generation=GENERATION)


def in_chromium(directory: Path, serve: Serve, binding: Path, driver: Path | None = None) -> Any:
    options = {"url": serve(directory), "binding": binding, "prompts": PROMPTS, "generation": GENERATION}
    seen = drive("transcript", timeout=180, driver=driver, **options)
    assert seen["errors"] == []
    return seen


def ids(seen: Any) -> list[tuple[int, ...]]:
    return [tuple(reply["tokens"]) for reply in seen["replies"]]


@needs_node
@in_float32
@pytest.mark.usefixtures("binding")
def test_in_node(quantization: str, tiny_artefact: Artefact) -> None:
    directory = tiny_artefact(quantization)
    assert ids(in_node(directory)) == expected(directory)


@needs_chromium
@in_float32
def test_in_chromium(quantization: str, tiny_artefact: Artefact, serve: Serve, binding: Path) -> None:
    directory = tiny_artefact(quantization)
    seen = in_chromium(directory, serve, binding)
    assert ids(seen) == expected(directory)
    assert [reply["text"] for reply in seen["replies"]] == ["".join(reply["pieces"]) for reply in seen["replies"]]


@needs_lavapipe
@in_float16
@pytest.mark.usefixtures("binding")
def test_in_node_in_float16(quantization: str, tiny_artefact: Artefact) -> None:
    directory = tiny_artefact(quantization)
    assert beginnings(ids(in_node(directory, LAVAPIPE))) == beginnings(expected(directory))


@needs_float16_chromium
@in_float16
def test_in_chromium_in_float16(quantization: str, tiny_artefact: Artefact, serve: Serve, binding: Path) -> None:
    directory = tiny_artefact(quantization)
    seen = in_chromium(directory, serve, binding, driver=LAVAPIPE_GPU)
    assert "swiftshader" not in seen["model"]["adapter"]
    assert beginnings(ids(seen)) == beginnings(expected(directory))
    assert ids(seen) == ids(in_node(directory, LAVAPIPE)), "the same driver computes the same"


def beginnings(answers: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The part that must not depend on rounding: the first tokens, before errors accumulate."""
    return answers[0][:8]


@needs_node
@in_float16
@pytest.mark.usefixtures("binding")
def test_16_bit_weights_are_computed_in_float32_where_float16_is_missing(
    quantization: str, tiny_artefact: Artefact
) -> None:
    """SwiftShader computes in float32 only, for which `--target webgpu` builds a second library."""
    directory = tiny_artefact(quantization)
    assert ids(in_node(directory)) == expected(directory)


@needs_node
@pytest.mark.usefixtures("binding")
def test_float16_is_refused_without_a_library_in_float32(tiny_artefact: Artefact, tmp_path: Path) -> None:
    seen = in_node(only_in_float16(tiny_artefact("q4f16_1"), tmp_path / "halves"))
    assert "shader-f16" in seen["error"]["message"]
    assert "argosy build --target webgpu" in seen["error"]["hint"]
