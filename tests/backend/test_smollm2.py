"""A real model, end to end: build SmolLM2 from its GGUF file, chat with it, and compare its logits with torch."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from argosy import ChatModule
from argosy.dist.artefact import open_artefact
from argosy.dist.catalogue import resolve_model
from argosy.model_defs.checkpoint import open_checkpoint
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights

GREEDY = {"temperature": 0.0, "max_tokens": 48}
NMSE = 1e-7


@pytest.mark.parametrize("quantization", ["q4f16_1", "q4f32_1", "keep", "q0f32"])
def test_it_knows_the_capital_of_france(quantization: str, demo_artefact: Callable[[str], Path]) -> None:
    chat = ChatModule(demo_artefact(quantization))
    assert "Paris" in chat.generate("What is the capital of France?", generation_config=GREEDY)


def test_three_turns_refer_back(demo_artefact: Callable[[str], Path]) -> None:
    chat = ChatModule(demo_artefact("q0f32"))
    chat.generate("What is the capital of France?", generation_config=GREEDY)
    chat.generate("And what is the capital of Italy?", generation_config=GREEDY)
    answer = chat.generate("Which two cities have we talked about?", generation_config=GREEDY)
    assert "Paris" in answer and "Rome" in answer
    assert chat.stats().answer.reused_tokens > 40, "earlier turns were computed again"


def test_turn_by_turn_is_the_same_as_at_once(demo_artefact: Callable[[str], Path]) -> None:
    chat = ChatModule(demo_artefact("keep"))
    first = chat.generate("Name a colour.", generation_config=GREEDY)
    second = chat.generate("Name another one.", generation_config=GREEDY)
    conversation = [
        {"role": "user", "content": "Name a colour."},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "Name another one."},
    ]
    chat.reset_chat()
    assert chat.generate(conversation, generation_config=GREEDY) == second


def test_kept_blocks_compute_what_torch_computes_with_their_weights(
    demo_artefact: Callable[[str], Path],
) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoConfig, AutoModelForCausalLM

    checkpoint = open_checkpoint(resolve_model("smollm2-135m").path)
    fields = {key: value for key, value in checkpoint.config.items() if key != "model_type"}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **fields)).float().eval()
    state = {name: torch.from_numpy(checkpoint.read(name).astype("float32")) for name in checkpoint.names()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()

    artefact = open_artefact(demo_artefact("keep"))
    library = load_library(artefact)
    runner = LibraryRunner(library, load_weights(artefact, library))
    ids = list(range(1000, 1000 + 40 * 37, 37))  # 40 tokens: more than two pages
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()
    runner.store.add(0)
    got = [runner.forward(Batch([Chunk(0, ids[:33])])).numpy()[0].copy()]
    got += [runner.forward(Batch([Chunk(0, [token])])).numpy()[0].copy() for token in ids[33:]]
    difference = np.stack(got) - expected[32:]
    assert np.sum(difference**2) / np.sum(expected[32:] ** 2) < NMSE


def test_loading_takes_little_more_than_one_copy_of_the_weights(demo_artefact: Callable[[str], Path]) -> None:
    """Packing frees stored weights: beyond the libraries, memory peaks at little more than 1.2 times the weights."""
    program = f"""
import sys
from argosy.runtime_bindings.engine.tvm_runtime import configure_threads, use_runtime_only
use_runtime_only()
configure_threads(None)
from argosy.dist.artefact import open_artefact
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.runtime_bindings.engine.memory import memory_use
artefact = open_artefact({str(demo_artefact("q4f16_1"))!r})
library = load_library(artefact)
before = memory_use().resident
weights = load_weights(artefact, library)
print((memory_use().peak - before) / LibraryRunner(library, weights).weight_bytes)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1.3
