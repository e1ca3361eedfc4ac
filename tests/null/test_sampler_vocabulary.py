"""The sampler's shortcuts for large vocabularies give the same results as simple references, in random cases."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_steps import adjust, truncate

from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.penalties import Penalties, Seen
from argosy.runtime_bindings.engine.sampler import Sampler, token_logprob
from argosy.runtime_bindings.engine.selection import indices, largest, largest_mass, leaders
from argosy.runtime_bindings.engine.softmax import block_sums
from argosy.runtime_bindings.engine.workspace import Workspace

SIZES = (4096, 4097, 6144, 20_000, 49_153, 65_536, 70_001)


def random_logits(rng: np.random.Generator, size: int) -> np.ndarray:
    """Make logits of any spread: many ties or few, outliers, banned ones, sorted, periodic, both zeros."""
    logits = rng.normal(size=size) * rng.choice([0.0, 0.01, 0.3, 1.0, 3.0, 6.0])
    if rng.random() < 0.4:
        logits = np.round(logits * 4) / 4
    if rng.random() < 0.5:
        logits[rng.integers(0, size, rng.integers(1, 200))] += rng.choice([3, 8, 20])
    if rng.random() < 0.3:
        logits[rng.random(size) < rng.choice([0.001, 0.5, 0.999])] = -np.inf
    match rng.integers(8):
        case 0:
            logits = np.sort(logits)
        case 1:
            logits = -np.sort(-logits)
        case 2:
            logits = np.tile(logits[: size // 8 + 1], 8)[:size]
        case 3:
            logits = np.where(rng.random(size) < 0.3, -0.0, np.maximum(logits, 0.0))
    logits[rng.integers(size)] = rng.choice([0.5, 12.0])
    return logits.astype(np.float32)


def case(place: int) -> tuple[np.random.Generator, np.ndarray]:
    """Make a random generator, and logits drawn from it."""
    rng = np.random.default_rng(place)
    return rng, random_logits(rng, SIZES[place % len(SIZES)])


def falling(scores: np.ndarray) -> np.ndarray:
    """Sort ids by descending score, ties to the lower id."""
    return np.lexsort((np.arange(len(scores)), -scores))


def as_indices(choice: np.ndarray) -> np.ndarray:
    return np.flatnonzero(choice) if choice.dtype == np.bool_ else choice


@pytest.mark.parametrize("place", range(35))
def test_selection_of_the_largest_is_that_of_a_full_sort(place: int) -> None:
    _, scores = case(place)
    order = falling(scores)
    for count in (1, 5, 383, len(scores) // 16 - 1, len(scores) // 16 + 1, len(scores) // 2, len(scores) - 1):
        assert np.array_equal(as_indices(largest(scores, count, Workspace())), np.sort(order[:count]))
    for count in (1, 5, 100, len(scores) // 16):
        assert np.array_equal(leaders(scores, count), order[:count])


@pytest.mark.parametrize("place", range(70))
def test_selection_by_mass_is_that_of_a_full_sort(place: int) -> None:
    """Weights are unrelated to the scores, and whole numbers, so that rounding does not affect the result."""
    rng, scores = case(place)
    weights = rng.integers(0, rng.choice([2, 9, 1000]), len(scores)).astype(np.float32)
    if rng.random() < 0.5:  # few that weigh much: a sample of the scores misleads
        weights[rng.integers(0, len(scores), 9)] = 2.0**16
    order = falling(scores)
    running = np.cumsum(weights[order], dtype=np.float64)
    for mass in (running[-1] * np.array([1e-6, 0.01, 0.3, 0.5, 0.9, 0.99, 0.9999, 1.0])).round():
        expected = np.sort(order[: int(np.searchsorted(running, mass)) + 1])
        choice = largest_mass(scores, weights, float(running[-1]), float(mass), Workspace(), float(weights.max()))
        assert np.array_equal(as_indices(choice), expected)


@pytest.mark.parametrize("place", range(35))
def test_sampler_steps_of_a_large_vocabulary_follow_a_full_sort(place: int) -> None:
    """The number of tokens may differ by what float32 can: the mass up to there must be right to 3e-6."""
    _, logits = case(place)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    weights /= weights.sum()
    mean = (weights * np.maximum(logits, -1e9)).sum()
    distance = np.abs(np.maximum(logits.astype(np.float64), -1e9) - mean)
    order = falling(logits)
    for share in (1e-7, 0.2, 0.7, 0.95, 0.999):
        ids, kept = truncate(logits, SamplingParams(top_p=share, min_p=0))
        chosen = np.arange(len(logits)) if ids is None else ids
        assert np.array_equal(chosen, np.sort(order[: len(chosen)])) and np.array_equal(kept, logits[chosen])
        running = np.cumsum(weights[order])[len(chosen) - 1]
        assert share - 3e-6 <= running < share + weights[order[len(chosen) - 1]] + 3e-6

        ids, kept = truncate(logits, SamplingParams(top_p=1.0, typical_p=share, min_p=0))
        chosen = np.arange(len(logits)) if ids is None else ids
        left = np.setdiff1d(np.arange(len(logits)), chosen)
        assert np.array_equal(kept, logits[chosen]) and weights[chosen].sum() >= share - 3e-6
        assert distance[chosen].max() <= distance[left].min(initial=np.inf) + 1e-5
        assert weights[chosen[distance[chosen] < distance[chosen].max() - 1e-5]].sum() <= share + 3e-6


def random_params(rng: np.random.Generator) -> SamplingParams:
    """Make parameters with several truncations, or none."""
    choices: dict[str, list[Any]] = {
        "top_k": [0, 0, 50, 5000], "typical_p": [1.0, 1.0, 0.5, 0.95], "top_p": [1.0, 0.4, 0.95],
        "min_p": [0.0, 0.0, 0.01], "temperature": [0.0, 0.6, 1.0], "repetition_penalty": [1.0, 1.0, 1.3],
        "frequency_penalty": [0.0, 0.2], "repeat_last_n": [-1, 64],
    }  # fmt: skip
    drawn = {name: values[rng.integers(len(values))] for name, values in choices.items()}
    return SamplingParams(seed=int(rng.integers(2**32)), logprobs=bool(rng.integers(2)), **drawn)


@pytest.mark.parametrize("place", range(49))
def test_sampler_steps_together_are_the_steps_one_after_the_other(place: int) -> None:
    rng, logits = case(place)
    params = random_params(rng).replace(temperature=1.0)
    expected = np.arange(len(logits))
    off: dict[str, Any] = {"top_k": 0, "typical_p": 1.0, "top_p": 1.0, "min_p": 0.0}
    for name in off:
        ids, _ = truncate(logits[expected], SamplingParams(**(off | {name: getattr(params, name)})))
        expected = expected if ids is None else expected[ids]
    ids, kept = truncate(logits, params)
    assert np.array_equal(np.arange(len(logits)) if ids is None else ids, expected)
    assert np.array_equal(kept, logits[expected])


def test_sampler_goes_on_without_the_likeliest_where_it_is_not_typical() -> None:
    """`min_p` and a low temperature are relative to the likeliest of the remaining tokens."""
    logits = np.random.default_rng(0).normal(size=70_001).astype(np.float32) / 10
    logits[7] = 10.0  # a fifth of the mass, far less surprising than the entropy
    params = SamplingParams(typical_p=0.7, top_p=1.0, min_p=0)
    ids, kept = truncate(logits, params)
    assert ids is not None and 7 not in ids and len(ids) > 35_000
    likely, _ = truncate(logits, params.replace(min_p=0.7))
    assert likely is not None and likely.tolist() == ids[kept >= kept.max() + math.log(0.7)].tolist()
    sampler = Sampler(params.replace(temperature=0.01, seed=1))
    drawn = [sampler.sample(logits, ()).token for _ in range(20)]
    assert all(token in ids and logits[token] > kept.max() - 0.2 for token in drawn)


@pytest.mark.parametrize("place", range(49))
def test_sampler_draws_and_reports_what_the_plain_steps_give(place: int) -> None:
    """A whole step, with and without logprobs, whose weights the other steps share: penalties by counting, a float64
    running sum over what is left, log-probabilities in float64; tokens may differ where the draw is that near."""
    rng, logits = case(place)
    params = random_params(rng)
    before = logits.copy()
    history = rng.integers(0, len(logits), 200).tolist() + falling(logits)[:3].tolist()
    sampler, shares = Sampler(params), np.random.Generator(np.random.PCG64(params.seed))
    for _ in range(3):
        sample = sampler.sample(logits, history)
        adjusted = adjust(logits, params, history)
        if params.temperature == 0.0:
            assert sample.token == int(np.argmax(adjusted))
        else:
            ids, kept = truncate(adjusted, params)
            weights = np.exp((kept.astype(np.float64) - kept.max()) / params.temperature)
            running, share = np.cumsum(weights) / weights.sum(), shares.random()
            at = sample.token if ids is None else int(np.searchsorted(ids, sample.token))
            assert (ids is None or ids[at] == sample.token) and weights[at] > 0
            assert running[at] >= share - 5e-6 and (at == 0 or running[at - 1] <= share + 5e-6)
        if params.logprobs:
            assert sample.logprob is not None
            exact = logits.astype(np.float64) - logits.max()
            exact -= np.log(np.exp(exact).sum())
            assert sample.logprob.logprob == pytest.approx(exact[sample.token], abs=1e-5)
        history.append(sample.token)
    assert np.array_equal(logits, before)


@pytest.mark.parametrize("place", range(21))
def test_sampler_top_logprobs_of_a_large_vocabulary(place: int) -> None:
    _, logits = case(place)
    assert [token for token, _ in token_logprob(logits, 0, 100).top] == falling(logits)[:100].tolist()


def test_sampler_workspace_may_be_shared() -> None:
    """Rows of other lengths and with other parameters in between leave nothing behind."""
    drawn = [case(place) for place in range(14)]
    everyone = [random_params(rng).replace(logprobs=True, top_logprobs=3) for rng, _ in drawn]
    space = Workspace()
    shared, alone = [Sampler(params, space) for params in everyone], [Sampler(params) for params in everyone]
    for _ in range(3):
        for one, other, (_, logits) in zip(shared, alone, drawn, strict=True):
            assert one.sample(logits, [1, 2, 2]) == other.sample(logits, [1, 2, 2])


# What happens to a history between two tokens: it grows, is cut in the middle (a full context), or is another one.
changes = st.one_of(
    st.tuples(st.just("grow"), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
    st.tuples(st.just("grow"), st.lists(st.integers(0, 300), min_size=60, max_size=70)),
    st.tuples(st.just("drop"), st.integers(0, 20)),
    st.tuples(st.just("replace"), st.lists(st.integers(0, 9), max_size=20)),
    st.tuples(st.just("put"), st.integers(0, 9)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(changes, max_size=20), st.sampled_from([-1, 0, 1, 3, 64]))
def test_sampler_counts_tokens_as_they_come(steps: list[tuple[str, Any]], last_n: int) -> None:
    seen, history = Seen(last_n), []
    for kind, value in steps:
        if kind == "grow":
            history += value
        elif kind == "drop":
            del history[1 : 1 + value]
        elif kind == "replace":
            history = value
        elif history:
            history[len(history) // 2] = value
        ids, counts = seen.counts(history if len(history) % 3 else tuple(history))
        window = history if last_n < 0 else history[max(0, len(history) - last_n) :]
        assert len(set(ids.tolist())) == len(ids)
        assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == Counter(window)


def test_sampler_counts_thousands_of_tokens_as_they_come() -> None:
    """Even with more distinct tokens than the first table has room for."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 3000, 2000).tolist()
    for last_n in (-1, 700):
        seen = Seen(last_n)
        for end in range(500, 2000):
            ids, counts = seen.counts(tokens[:end])
        assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == Counter(
            tokens[:end] if last_n < 0 else tokens[end - last_n : end]
        )


def test_sampler_penalties_name_the_ids_they_change() -> None:
    params = SamplingParams(repetition_penalty=1.5, repeat_last_n=2, logit_bias={3: 1.0, 5: -math.inf})
    logits = np.ones(8, np.float32)
    adjusted, changed = Penalties(params).apply(logits, [0, 1, 2], Workspace())
    assert changed is not None and sorted(changed.tolist()) == [1, 2, 3, 5]
    assert np.flatnonzero(adjusted != logits).tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize("size", [1, 127, 128, 129, 70_001])
def test_selection_sums_blocks_of_any_length(size: int) -> None:
    values = np.random.default_rng(size).random(size, dtype=np.float32)
    mask = values > 0.5
    assert block_sums(values).sum(dtype=np.float64) == pytest.approx(values.sum(dtype=np.float64), rel=1e-6)
    assert block_sums(values, mask).sum(dtype=np.float64) == pytest.approx(values[mask].sum(dtype=np.float64), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.06, 0.0999, 0.11, 0.5, 1.0])
def test_selection_lists_what_a_mask_is_true_for(share: float) -> None:
    mask = np.random.default_rng(0).random(70_001) < share
    assert np.array_equal(indices(mask), np.flatnonzero(mask))
