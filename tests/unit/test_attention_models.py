"""Attention in whole models: tokens do not depend on how a sequence was built; the error of half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from tiny_models import CHUNK, TinyLibrary, build_library, nmse, reference_logits, save_model

from argosy.model_defs.families import FAMILIES

TOLERANCE = {"f32": 1e-11, "f16": 1e-6}  # normalised mean square error of logits, by the dtype of the cache
STEPS = 12


def prompt(length: int, seed: int = 0) -> list[int]:
    """Draw random token ids."""
    return np.random.default_rng(seed).integers(0, 128, length).tolist()


def greedy(library: TinyLibrary, sequence: int, logits: np.ndarray, steps: int = STEPS) -> list[int]:
    """Decode greedily from `logits` (vocab,), those of the first token."""
    tokens = [int(logits.argmax())]
    while len(tokens) < steps:
        tokens.append(int(library.forward("decode", {sequence: tokens[-1:]})[0, 0].argmax()))
    return tokens


def answer(library: TinyLibrary, ids: list[int]) -> list[int]:
    """Return the greedy answer to `ids` alone, prefilled in one piece."""
    assert len(ids) <= CHUNK
    library.add(99)
    tokens = greedy(library, 99, library.prefill(99, ids))
    library.remove(99)
    return tokens


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> TinyLibrary:
    directory = tmp_path_factory.mktemp("exact")
    save_model(FAMILIES["llama"].tiny_config, directory)
    return build_library(directory, kv="f32")


def test_turns_give_the_tokens_of_one_piece(exact: TinyLibrary) -> None:
    ids = prompt(45)
    expected = answer(exact, ids)
    exact.add(0)
    for start, end in ((0, 17), (17, 18), (18, 40), (40, 45)):
        logits = exact.prefill(0, ids[start:end])
    assert greedy(exact, 0, logits) == expected
    exact.remove(0)


def test_forks_give_the_tokens_of_one_piece(exact: TinyLibrary) -> None:
    shared = prompt(21)
    questions = {1: prompt(1, 1), 2: prompt(9, 2), 3: prompt(20, 3)}
    exact.add(0)
    exact.prefill(0, shared)
    for sequence, question in questions.items():
        tvm.get_global_func("vm.builtin.kv_state_fork_sequence")(exact.cache, 0, sequence, -1)
        assert greedy(exact, sequence, exact.prefill(sequence, question)) == answer(exact, shared + question)
        exact.remove(sequence)
    assert greedy(exact, 0, exact.prefill(0, [5])) == answer(exact, [*shared, 5])
    exact.remove(0)


def test_batches_give_the_tokens_of_one_piece(exact: TinyLibrary) -> None:
    prompts = {0: prompt(13), 1: prompt(2, 1), 2: prompt(30, 2)}
    for sequence in prompts:
        exact.add(sequence)
    logits = exact.forward("batch_prefill", prompts)[0]
    tokens = {sequence: [int(row.argmax())] for sequence, row in zip(prompts, logits, strict=True)}
    for _ in range(STEPS - 1):
        logits = exact.forward("batch_decode", {sequence: said[-1:] for sequence, said in tokens.items()})[:, 0]
        for said, row in zip(tokens.values(), logits, strict=True):
            said.append(int(row.argmax()))
    for sequence, ids in prompts.items():
        assert tokens[sequence] == answer(exact, ids)
        exact.remove(sequence)


@pytest.mark.parametrize("family", ["llama", "gpt2"])  # with rotation, and without
def test_half_precision_cache(family: str, tmp_path: Path) -> None:
    model = save_model(FAMILIES[family].tiny_config, tmp_path)
    ids = prompt(40)
    reference = reference_logits(model, ids)
    errors = {}
    for kv in TOLERANCE:
        library = build_library(tmp_path, kv=kv)
        library.add(0)
        logits = [library.prefill(0, ids[:20]), library.prefill(0, ids[20:33])]
        logits += [library.forward("decode", {0: [token]})[0, 0] for token in ids[33:]]
        errors[kv] = nmse(np.stack(logits), reference[[19, *range(32, 40)]])
        assert errors[kv] < TOLERANCE[kv]
    assert errors["f16"] > 1e3 * errors["f32"]  # else the cache is not in half precision
