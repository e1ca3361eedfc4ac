"""Packing and unpacking follow the definitions: layout, error bounds, and values that cannot be stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.quant.formats import pack, pack_codes, unpack, unpack_codes
from argosy.quant.rounding import ROUNDINGS, Rounding
from argosy.quant.scheme import F16, FORMATS, INT3_F16, INT4_F16, INT4_F32, INT4_MIN_F16, INT8_F16, Format
from argosy.support.errors import SchemeError

INTEGER = [fmt for fmt in FORMATS.values() if fmt.bits]
formats = pytest.mark.parametrize("fmt", FORMATS.values(), ids=lambda fmt: fmt.name)
integer_formats = pytest.mark.parametrize("fmt", INTEGER, ids=lambda fmt: fmt.name)
roundings = pytest.mark.parametrize("rounding", ROUNDINGS)


def gaussian(n: int, k: int, seed: int = 0, size: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, k)) * size).astype(np.float32)


def relative_rms(values: np.ndarray, fmt: Format, rounding: str) -> float:
    error = unpack(fmt, pack(fmt, values, rounding), values.shape[1]) - values
    return float(np.sqrt((error**2).mean() / (values**2).mean()))


@formats
@roundings
@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 5),
    k=st.integers(1, 130),
    seed=st.integers(0, 2**32 - 1),
    exponent=st.floats(-6, 3.2),
    offset=st.sampled_from([0.0, 1.0, -20.0]),
)
def test_shapes_and_error_bound(
    fmt: Format, rounding: str, n: int, k: int, seed: int, exponent: float, offset: float
) -> None:
    """Tensors match `Format.tensors`, and errors are within half a step plus the rounding of scales."""
    values = ((gaussian(n, k, seed) + np.float32(offset)) * np.float32(10**exponent)).astype(np.float32)
    tensors = pack(fmt, values, rounding)
    assert {s: (t.shape, str(t.dtype)) for s, t in tensors.items()} == fmt.tensors((n, k))
    if fmt.bits == 0:
        assert np.array_equal(tensors["weight"], values.astype(fmt.dtype))
        return
    levels = 1 << fmt.bits
    eps, tiny = (2**-11, 2**-25) if fmt.dtype == "float16" else (2**-24, 2**-149)
    steps = np.repeat(np.abs(tensors["q_scale"].astype(np.float32)), fmt.group, axis=1)[:, :k]
    # Half a step; the scale's own rounding, over all levels; the minimum's; and float32 arithmetic.
    bound = steps * (0.5 + levels * eps) + levels * tiny + np.abs(values).max() * (2**-20 + (eps if fmt.has_min else 0))
    # With `full`, the opposite of the largest weight may be one step beyond the last code.
    if rounding == "full" and not fmt.has_min:
        bound = bound + steps / 2
    error = np.abs(unpack(fmt, tensors, k) - values)
    assert (error <= bound).all(), (error - bound).max()


@integer_formats
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_codes_survive_packing(fmt: Format, data: st.DataObject) -> None:
    groups = data.draw(st.integers(1, 4))
    codes = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1))).integers(
        0, 1 << fmt.bits, size=(3, groups * fmt.group), dtype=np.uint8
    )
    k = data.draw(st.integers(1, codes.shape[1]))
    words = pack_codes(fmt, codes)
    assert words.shape == (3, groups * fmt.words_per_group)
    assert np.array_equal(unpack_codes(fmt, words, k), codes[:, :k])


@pytest.mark.parametrize(
    ("fmt", "expected"),
    [
        (INT4_F16, [0x76543210, 0xFEDCBA98, 0x76543210, 0xFEDCBA98]),
        (INT3_F16, [sum((i % 8) << 3 * i for i in range(10)), sum(((i + 2) % 8) << 3 * i for i in range(10))]),
        (INT8_F16, [0x03020100, 0x07060504, 0x0B0A0908, 0x0F0E0D0C]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_first_value_lies_lowest(fmt: Format, expected: list[int]) -> None:
    codes = (np.arange(fmt.group) % (1 << fmt.bits)).astype(np.uint8)[None]
    assert pack_codes(fmt, codes)[0, : len(expected)].tolist() == expected


@integer_formats
@roundings
def test_columns_that_fill_a_group_are_code_zero(fmt: Format, rounding: str) -> None:
    values = gaussian(3, fmt.group + 5) + 7
    words = pack(fmt, values, rounding)["q_weight"]
    assert not unpack_codes(fmt, words, 2 * fmt.group)[:, fmt.group + 5 :].any()


@pytest.mark.parametrize("fmt", [INT4_F16, INT4_F32, INT3_F16, INT8_F16], ids=lambda fmt: fmt.name)
def test_rtn_is_what_mlc_does(fmt: Format) -> None:
    """mlc-llm's own formulas; codes are computed with the scale as stored."""
    values = gaussian(512, 8 * fmt.group)
    tensors = pack(fmt, values, "rtn")
    groups = values.reshape(512, 8, fmt.group)
    max_int = {4: 7, 3: 3, 8: 127}[fmt.bits]
    scale = (np.abs(groups).max(axis=-1) / np.float32(max_int)).astype(fmt.dtype)
    assert np.array_equal(tensors["q_scale"], scale)
    levels = np.rint(groups / scale.astype(np.float32)[..., None] + np.float32(fmt.zero))
    codes = unpack_codes(fmt, tensors["q_weight"], values.shape[1])
    assert np.array_equal(codes, levels.clip(fmt.zero - max_int, fmt.zero + max_int).reshape(values.shape))
    assert set(np.unique(codes)) == set(range(fmt.zero - max_int, fmt.zero + max_int + 1))


def test_rtn_never_uses_the_last_level() -> None:
    """Not even if the scale is so small that storing it halves it."""
    values = np.full((1, 32), 1.4 * 7 * 2**-24, np.float32)
    assert np.unique(unpack_codes(INT4_F16, pack(INT4_F16, values, "rtn")["q_weight"], 32)).tolist() == [14]


@roundings
def test_filled_up_columns_do_not_widen_the_range(rounding: str) -> None:
    """A (scale, minimum) group of one value between 5 and 6 has no zero to reach."""
    values = np.linspace(5, 6, 33, dtype=np.float32)[None]
    tensors = pack(INT4_MIN_F16, values, rounding)
    assert tensors["q_min"].tolist() == [[5.0, 6.0]]
    assert tensors["q_scale"][0, 1] == 0


@pytest.mark.parametrize(("fmt", "far"), [(INT4_F16, 15), (INT4_F32, 15), (INT3_F16, 7), (INT8_F16, 0)], ids=str)
def test_full_gives_the_largest_weight_the_last_code(fmt: Format, far: int) -> None:
    values = gaussian(64, fmt.group)
    tensors = pack(fmt, values, "full")
    codes = unpack_codes(fmt, tensors["q_weight"], fmt.group)
    largest = np.abs(values).argmax(axis=1)
    assert (codes[np.arange(64), largest] == far).all()
    signs = np.sign(values[np.arange(64), largest]) * (1 if far else -1)
    assert np.array_equal(np.sign(tensors["q_scale"][:, 0]), signs)


def test_full_is_nearer_than_rtn() -> None:
    """Gaussian weights, 4 bits: 0.0970 for mlc-llm's rounding, and at least a tenth less with all levels."""
    values = gaussian(512, 1024)
    assert relative_rms(values, INT4_F16, "rtn") == pytest.approx(0.0970, abs=0.0005)
    assert relative_rms(values, INT4_F16, "full") < 0.9 * 0.0970
    assert relative_rms(values, INT3_F16, "full") < 0.9 * relative_rms(values, INT3_F16, "rtn")
    assert relative_rms(values, INT8_F16, "full") <= relative_rms(values, INT8_F16, "rtn") * 1.001


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.floats(1e-3, 1e3))
def test_full_never_loses_to_rtn_on_gaussians(seed: int, size: float) -> None:
    values = gaussian(64, 256, seed, size)
    for fmt in (INT4_F16, INT4_F32, INT3_F16):
        assert relative_rms(values, fmt, "full") <= relative_rms(values, fmt, "rtn")


@integer_formats
@roundings
def test_groups_of_zeros_and_constants(fmt: Format, rounding: str) -> None:
    values = np.zeros((2, 3 * fmt.group), np.float32)
    values[1, fmt.group : 2 * fmt.group] = 0.25
    tensors = pack(fmt, values, rounding)
    decoded = unpack(fmt, tensors, values.shape[1])
    assert not decoded[0].any()
    assert (unpack_codes(fmt, tensors["q_weight"], values.shape[1])[0] == fmt.zero).all()
    np.testing.assert_allclose(decoded[1], values[1], rtol=2e-3)


@integer_formats
@roundings
def test_weights_too_small_for_a_scale_become_zero(fmt: Format, rounding: str) -> None:
    values = np.full((1, fmt.group), 1e-9, np.float32)
    values[0, ::2] *= -1
    decoded = unpack(fmt, pack(fmt, values, rounding), fmt.group)
    assert np.abs(decoded - values).max() <= 1e-9


@formats
@roundings
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(fmt: Format, rounding: str, bad: float) -> None:
    values = gaussian(3, 80)
    values[1, 70] = bad
    with pytest.raises(SchemeError, match="`mlp_weight` holds NaN or infinity"):
        pack(fmt, values, rounding, name="mlp_weight")


@pytest.mark.parametrize("fmt", [F16, INT4_F16, INT4_MIN_F16, INT3_F16], ids=lambda fmt: fmt.name)
@roundings
def test_scales_beyond_float16_are_refused(fmt: Format, rounding: str) -> None:
    values = gaussian(3, 80)
    values[2, 3] = -2e6
    with pytest.raises(SchemeError, match=r"`w` holds values up to `2e\+06`, which float16 storage") as caught:
        pack(fmt, values, rounding, name="w")
    assert "q4f32_1" in (caught.value.hint or "")
    assert unpack(INT4_F32, pack(INT4_F32, values, rounding), 80)[2, 3] == pytest.approx(-2e6, rel=1e-6)


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(SchemeError, match="unknown rounding method `best`"):
        pack(INT4_F16, gaussian(1, 32), "best")


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    values = gaussian(37, 72)
    whole = {name: pack(fmt, values) for name, fmt in FORMATS.items()}
    monkeypatch.setattr("argosy.quant.formats.CHUNK_VALUES", 300)
    for name, fmt in FORMATS.items():
        for suffix, tensor in pack(fmt, values).items():
            assert np.array_equal(tensor, whole[name][suffix]), (name, suffix)


def test_importance_reaches_the_method_by_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibrated method gets one cost per column, grouped like the weights, and zero for padding."""
    seen = []

    def choose(fmt: Format, groups: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        seen.append(importance)
        ones = np.ones(groups.shape[:2], np.float32)
        return ones, ones if fmt.has_min else None

    monkeypatch.setitem(ROUNDINGS, "spy", Rounding("spy", "", choose))
    for fmt in (INT4_F16, INT4_MIN_F16):
        pack(fmt, gaussian(2, 40), "spy", importance=np.arange(1, 41, dtype=np.float32))
        assert seen[-1].shape == (2, 32)
        assert seen[-1].ravel().tolist() == [*range(1, 41), *[0] * 24]


@formats
@roundings
def test_experts_are_stored_like_each_alone(fmt: Format, rounding: str) -> None:
    values = np.stack([gaussian(5, 72, seed) for seed in range(3)])
    stacked = pack(fmt, values, rounding)
    assert {s: (t.shape, str(t.dtype)) for s, t in stacked.items()} == fmt.tensors(values.shape)
    for i, matrix in enumerate(values):
        alone = pack(fmt, matrix, rounding)
        for suffix, tensor in stacked.items():
            assert np.array_equal(tensor[i], alone[suffix]), suffix
        assert np.array_equal(unpack(fmt, stacked, 72)[i], unpack(fmt, alone, 72))


def test_each_expert_has_its_importance(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def choose(fmt: Format, groups: np.ndarray, importance: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        assert importance is not None
        seen.append(float(importance[0, 0]))
        return np.ones(groups.shape[:2], np.float32), None

    monkeypatch.setitem(ROUNDINGS, "spy", Rounding("spy", "", choose))
    values = np.zeros((2, 1, 32), np.float32)
    pack(INT4_F16, values, "spy", importance=np.array([[1.0] * 32, [2.0] * 32], np.float32))
    pack(INT4_F16, values, "spy", importance=np.full(32, 3.0, np.float32))
    assert seen == [1, 2, 3, 3]
