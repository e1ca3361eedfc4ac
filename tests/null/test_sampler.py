"""The sampler follows its documented rules, and agrees with simple references that sort the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sampling_steps import adjust, truncate

from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.sampler import Sampler, sample_rows, token_logprob
from argosy.runtime_bindings.engine.softmax import draw, exponentials
from argosy.support.errors import ArgosyError, RequestError

# Coarse values make ties; spread values make long tails.
logits_strategy = arrays.arrays(
    np.float32, st.integers(1, 60), elements=st.integers(-40, 40).map(lambda x: x / 4), fill=st.nothing()
)
params_strategy = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 1000]),
    top_p=st.sampled_from([1.0, 0.99, 0.9, 0.5, 0.01]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)


def kept_ids(logits: np.ndarray, params: SamplingParams) -> list[int]:
    """Return the ids that truncation keeps."""
    ids, kept = truncate(logits, params)
    return list(range(len(kept))) if ids is None else ids.tolist()


def reference_truncate(logits: np.ndarray, params: SamplingParams) -> list[int]:
    """Apply steps 3 to 6 with plain sorts: (-score, id) orders by score and breaks ties by id."""
    ids = list(range(len(logits)))

    def probabilities() -> dict[int, float]:
        top = max(float(logits[i]) for i in ids)
        weights = {i: math.exp(float(logits[i]) - top) for i in ids}
        return {i: w / sum(weights.values()) for i, w in weights.items()}

    def mass(order: list[int], p: dict[int, float], wanted: float) -> list[int]:
        total, kept = 0.0, []
        for i in order:
            kept.append(i)
            total += p[i]
            if total >= wanted - 1e-6:
                break
        return kept

    if params.top_k:
        ids = sorted(ids, key=lambda i: (-logits[i], i))[: params.top_k]
    if params.typical_p < 1:
        p = probabilities()
        entropy = -sum(x * math.log(x) for x in p.values() if x > 0)
        ids = mass(sorted(ids, key=lambda i: (abs(-math.log(p[i]) - entropy), i)), p, params.typical_p)
    if params.top_p < 1:
        p = probabilities()
        ids = mass(sorted(ids, key=lambda i: (-p[i], i)), p, params.top_p)
    if params.min_p > 0:
        p = probabilities()
        ids = [i for i in ids if p[i] >= params.min_p * max(p.values()) * (1 - 1e-6)]
    return sorted(ids)


@settings(max_examples=400, deadline=None)
@given(logits_strategy, params_strategy)
def test_sampler_truncates_like_the_reference(logits: np.ndarray, params: SamplingParams) -> None:
    expected = reference_truncate(logits, params)
    assert np.array_equal(truncate(logits, params)[1], logits[expected])
    assert kept_ids(logits, params) == expected


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 80), params_strategy, st.sampled_from([0.95, 0.6, 0.2]))
def test_sampler_truncates_to_typical_tokens_like_the_reference(
    seed: int, size: int, params: SamplingParams, typical_p: float
) -> None:
    """Without equal logits: two tokens equally far from the entropy may be in either order."""
    logits = (np.random.default_rng(seed).normal(size=size) * 3).astype(np.float32)
    params = params.replace(typical_p=typical_p)
    assert kept_ids(logits, params) == reference_truncate(logits, params)


@settings(max_examples=200, deadline=None)
@given(logits_strategy, params_strategy)
def test_sampler_draws_only_what_is_left(logits: np.ndarray, params: SamplingParams) -> None:
    allowed = set(kept_ids(logits, params))
    drawn = {Sampler(params).sample(logits, ()).token for _ in range(3)}
    assert drawn <= allowed


LARGE = 20_000


def large_logits(shape: str, size: int = LARGE, seed: int = 0) -> np.ndarray:
    """Make logits of a vocabulary: nearly flat, with outliers, with a heavy tail, with many ties, or mostly banned."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=size)
    if shape == "peaked":
        logits[rng.integers(0, size, 30)] += 10
    elif shape == "tail":
        logits = rng.gumbel(size=size) * 2
    elif shape == "ties":
        logits = np.round(logits * 2) / 2
    elif shape == "banned":
        logits[rng.random(size) < 0.999] = -np.inf
    elif shape == "sorted":
        logits = np.sort(logits * 3)
    elif shape == "equal":
        logits[:] = 0.25
    return logits.astype(np.float32)


SHAPES = ("flat", "peaked", "tail", "ties", "banned", "sorted", "equal")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [LARGE, 49_153, 4097])
def test_sampler_truncates_large_vocabularies_like_a_full_sort(shape: str, size: int) -> None:
    """The number of tokens may differ by what float32 can: the mass up to there must be right to 2e-6."""
    logits = large_logits(shape, size)
    order = np.argsort(-logits, kind="stable")
    p = np.exp(logits.astype(np.float64) - logits.max())
    running = np.cumsum((p / p.sum())[order])
    for top_k in (1, 40, 300, size - 1):
        assert kept_ids(logits, SamplingParams(top_k=top_k, top_p=1, min_p=0)) == np.sort(order[:top_k]).tolist()
    for top_p in (0.1, 0.5, 0.95, 0.9999):
        ids = kept_ids(logits, SamplingParams(top_p=top_p, min_p=0))
        count = len(ids)
        assert ids == np.sort(order[:count]).tolist()
        assert running[count - 1] >= top_p - 2e-6 and (count == 1 or running[count - 2] < top_p)
    for min_p in (0.01, 0.5):
        expected = np.flatnonzero(logits >= logits.max() + math.log(min_p))
        assert kept_ids(logits, SamplingParams(top_p=1, min_p=min_p)) == expected.tolist()


@pytest.mark.parametrize("shape", ["flat", "peaked", "tail", "sorted"])
def test_sampler_truncates_large_vocabularies_to_typical_tokens(shape: str) -> None:
    logits = large_logits(shape)
    p = np.exp(logits.astype(np.float64) - logits.max())
    p /= p.sum()
    distance = np.abs(-np.log(p) + (p * np.log(p)).sum())
    for typical_p in (0.2, 0.9):
        ids = kept_ids(logits, SamplingParams(top_p=1, typical_p=typical_p, min_p=0))
        assert p[ids].sum() == pytest.approx(typical_p, abs=p[ids].max() + 2e-6) and p[ids].sum() >= typical_p - 2e-6
        left = np.setdiff1d(np.arange(LARGE), ids)
        assert distance[ids].max() <= distance[left].min() + 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_sampler_draws_from_a_large_vocabulary_by_the_running_sum(shape: str) -> None:
    logits = large_logits(shape)
    weights = np.exp(logits.astype(np.float64) / 0.7 - logits.max() / 0.7)
    running = np.cumsum(weights) / weights.sum()
    for share in (0.0, 1e-9, 0.2, 0.5, 0.77, 1 - 2**-53):
        place = draw(exponentials(logits, logits.max(), 0.7), share)
        assert weights[place] > 0
        assert running[place] >= share - 1e-6 and (place == 0 or running[place - 1] <= share + 1e-6)


def test_sampler_large_draws_follow_the_distribution() -> None:
    """Chi-squared over 5,000 draws in 20 cells of a large vocabulary: 19 degrees of freedom, 0.1 % quantile 43.8."""
    logits = large_logits("tail", 8192)
    weights = np.exp(logits.astype(np.float64))
    edges = np.linspace(0, 8192, 21).astype(int)
    cells = np.add.reduceat(weights, edges[:-1]) / weights.sum()
    sampler = Sampler(SamplingParams(temperature=1, top_p=1.0, seed=5, min_p=0))
    counts, _ = np.histogram([sampler.sample(logits, ()).token for _ in range(5000)], bins=edges)
    assert ((counts - 5000 * cells) ** 2 / (5000 * cells)).sum() < 43.8


def reference_penalties(logits: np.ndarray, params: SamplingParams, history: list[int]) -> np.ndarray:
    out = logits.astype(np.float64).copy()
    for token, bias in params.logit_bias.items():
        out[token] += bias
    window = history if params.repeat_last_n < 0 else history[max(0, len(history) - params.repeat_last_n) :]
    for token in set(window):
        factor = params.repetition_penalty
        out[token] = out[token] / factor if out[token] > 0 else out[token] * factor
        out[token] -= window.count(token) * params.frequency_penalty + params.presence_penalty
    return out


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 19), max_size=40),
    st.sampled_from([-1, 0, 1, 3, 64]),
    st.sampled_from([1.0, 1.3, 0.7]),
    st.sampled_from([0.0, 0.5, -1.0]),
    st.sampled_from([0.0, 0.25, -0.5]),
    st.dictionaries(st.integers(0, 19), st.sampled_from([-5.0, 3.0, -math.inf]), max_size=3),
)
def test_sampler_penalises_like_the_reference(
    history: list[int], last_n: int, repetition: float, presence: float, frequency: float, bias: dict[int, float]
) -> None:
    logits = np.linspace(-3, 3, 20, dtype=np.float32)
    before = logits.copy()
    params = SamplingParams(
        repetition_penalty=repetition, presence_penalty=presence, frequency_penalty=frequency, repeat_last_n=last_n,
        logit_bias=bias,
    )  # fmt: skip
    expected = reference_penalties(logits, params, history)
    assert np.allclose(adjust(logits, params, history), expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(logits, before), "the model's logits are not ours to change"


def test_sampler_at_temperature_zero_takes_the_largest_and_the_lower_id_of_two() -> None:
    logits = np.array([1, 5, 5, 0], np.float32)
    greedy = SamplingParams(temperature=0, top_k=1, top_p=0.1)
    assert Sampler(greedy).sample(logits, ()).token == 1
    assert Sampler(greedy.replace(logit_bias={1: -math.inf})).sample(logits, ()).token == 2


def test_sampler_bans_for_the_first_token_end_with_it() -> None:
    """Even if a context that slides has the same length once more."""
    sampler = Sampler(SamplingParams(temperature=0, suppress_tokens=[2], begin_suppress_tokens=[4]))
    logits = np.arange(5, dtype=np.float32)
    histories = ([1], [1], [1, 3], [1])
    assert [sampler.sample(logits, history).token for history in histories] == [3, 3, 4, 4]


def test_sampler_bans_what_would_complete_a_sequence() -> None:
    sampler = Sampler(SamplingParams(temperature=0, bad_words_ids=[[3, 1, 4], [9]], no_repeat_ngram_size=2))
    logits = np.arange(10, dtype=np.float32) / 100
    logits[4] = 9
    histories = ([3, 1], [1, 3, 1, 4, 1], [3, 3, 1], [1])
    assert [sampler.sample(logits, history).token for history in histories] == [8, 8, 8, 4]


def test_sampler_repeats_itself_with_a_seed_and_differs_without() -> None:
    logits = np.zeros(1000, np.float32)
    params = SamplingParams(temperature=1, top_p=1.0, seed=7, min_p=0)
    runs = [[sampler.sample(logits, ()).token for _ in range(8)] for sampler in (Sampler(params), Sampler(params))]
    assert runs[0] == runs[1]
    free = Sampler(params.replace(seed=None))
    assert [free.sample(logits, ()).token for _ in range(8)] != runs[0]


def test_sampler_follows_the_distribution() -> None:
    """Chi-squared over 20,000 draws of one seed: 4 cells, 3 degrees of freedom, 0.1 % quantile 16.3."""
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    sampler = Sampler(SamplingParams(temperature=1, top_p=1.0, seed=1, min_p=0))
    logits = np.log(probabilities).astype(np.float32)
    counts = np.bincount([sampler.sample(logits, ()).token for _ in range(20_000)], minlength=4)
    assert ((counts - 20_000 * probabilities) ** 2 / (20_000 * probabilities)).sum() < 16.3


def test_sampler_temperature_sharpens() -> None:
    logits = np.array([0.0, 1.0], np.float32)
    sampler = Sampler(SamplingParams(temperature=0.25, top_p=1.0, seed=1, min_p=0))
    share = np.mean([sampler.sample(logits, ()).token for _ in range(5000)])
    assert abs(share - 1 / (1 + math.exp(-4))) < 0.01


@pytest.mark.parametrize("temperature", [5e-324, 1e-46, 1e-40, 1e-30])
@pytest.mark.filterwarnings("error")
def test_sampler_at_the_coldest_temperatures_takes_the_largest(temperature: float) -> None:
    logits = np.array([-100.0, 20.0, 20.0 + 2e-6, -np.inf], np.float32)
    sampler = Sampler(SamplingParams(temperature=temperature, top_p=1.0, seed=1, min_p=0))
    assert {sampler.sample(logits, ()).token for _ in range(8)} == {2}


def test_sampler_logprobs_are_the_models_own() -> None:
    logits = np.random.default_rng(0).normal(size=300).astype(np.float32)
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum())
    params = SamplingParams(temperature=0, logprobs=True, top_logprobs=5, logit_bias={17: 100.0})
    sample = Sampler(params).sample(logits, ())
    assert sample.token == 17 and sample.logprob is not None
    assert sample.logprob.logprob == pytest.approx(exact[17])
    order = np.argsort(-logits)[:5]
    assert [token for token, _ in sample.logprob.top] == order.tolist()
    assert [value for _, value in sample.logprob.top] == pytest.approx(exact[order].tolist())
    assert token_logprob(logits, 3, 0).top == ()


def test_sampler_rows_have_their_own_parameters_and_a_broken_row_spares_the_others() -> None:
    rows = np.zeros((3, 4), np.float32)
    rows[0, 2], rows[1, :], rows[2, 1] = 1, np.nan, 1
    samplers = [Sampler(SamplingParams(temperature=t)) for t in (0, 1, 0)]
    first, broken, last = sample_rows(samplers, rows, [(), (), ()])
    assert first.token == 2 and last.token == 1
    assert isinstance(broken, ArgosyError) and "nan" in broken.message


@pytest.mark.parametrize("params", [SamplingParams(temperature=0), SamplingParams(), SamplingParams(top_k=2)])
def test_sampler_refuses_logits_that_say_nothing(params: SamplingParams) -> None:
    for row in (np.full(8, np.nan), np.full(8, -np.inf), np.array([1, np.nan, 2, 3.0])):
        with pytest.raises(ArgosyError, match="no finite number"):
            Sampler(params).sample(row.astype(np.float32), ())


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("temperature", -0.1, "from 0 to 100"),
        ("temperature", math.nan, "from 0 to 100"),
        ("temperature", "hot", "from 0 to 100"),
        ("temperature", True, "from 0 to 100"),
        ("top_p", 0, "above 0 and up to 1"),
        ("top_p", 1.01, "above 0 and up to 1"),
        ("min_p", 2, "from 0 to 1"),
        ("typical_p", 0.0, "above 0"),
        ("repetition_penalty", 0, "above 0"),
        ("presence_penalty", 3, "from -2 to 2"),
        ("frequency_penalty", -3, "from -2 to 2"),
        ("top_k", -1, "whole number from 0"),
        ("top_k", 1.5, "whole number"),
        ("repeat_last_n", -2, "whole number from -1"),
        ("seed", -1, "whole number from 0"),
        ("seed", 2**64, "whole number"),
        ("top_logprobs", 3, "unless `logprobs`"),
        ("logprobs", 1, "true or false"),
        ("logit_bias", {"5": 1.0}, "token ids"),
        ("logit_bias", {-5: 1.0}, "token ids"),
        ("logit_bias", {5: math.inf}, "finite bias"),
        ("logit_bias", {5: None}, "finite bias"),
        ("logit_bias", [5], "table"),
        ("temperature", 10**400, "from 0 to 100"),
        ("suppress_tokens", 5, "list of at most"),
        ("suppress_tokens", [-1], "token ids"),
        ("begin_suppress_tokens", [True], "token ids"),
        ("bad_words_ids", [[]], "none of them empty"),
        ("bad_words_ids", [[1, None]], "token ids"),
        ("no_repeat_ngram_size", -1, "whole number from 0"),
    ],
)
def test_sampler_parameters_out_of_range_are_refused(field: str, value: object, allowed: str) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{field: value})
    assert f"`{field}" in caught.value.message and allowed in caught.value.message
    assert "\n" not in caught.value.message


def test_sampler_parameters_unknown_name_is_refused() -> None:
    with pytest.raises(RequestError, match="`heat` is not a generation setting"):
        SamplingParams().replace(heat=1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("logprobs", [False, True])
@pytest.mark.parametrize(
    ("settings", "favoured"),
    [
        ({"repetition_penalty": 1e-300}, {0, 1}),
        ({"repetition_penalty": 1e-45}, {0, 1}),
        ({"repetition_penalty": 1e-38, "frequency_penalty": -2.0, "presence_penalty": -2.0}, {0, 1}),
        ({"logit_bias": {3: 1e300}}, {3}),
        ({"logit_bias": {3: 3e38}, "repetition_penalty": 0.5}, {3}),
        ({"logit_bias": {0: -1e300, 1: -1e39, 2: -1e300, 3: -1e300}}, {4}),
    ],
    ids=str,
)
def test_absurd_settings_choose_a_token_and_do_not_blame_the_weights(
    settings: dict, favoured: set[int], temperature: float, logprobs: bool
) -> None:
    logits = np.array([5, 4, -1, 2, 3], np.float32)
    params = SamplingParams(temperature=temperature, seed=1, logprobs=logprobs, **settings)
    assert Sampler(params).sample(logits, [0, 1, 2, 3]).token in favoured
