"""GGUF blocks in our formats give the same values as the `gguf` package."""

from __future__ import annotations

from dataclasses import dataclass

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argosy.quant.formats import BLOCK_FORMATS, blocks_fit, pack_blocks, unpack
from argosy.quant.scheme import FORMATS, INT4_F16, INT4_F32, INT4_MIN_F16, INT8_F16, Format
from argosy.support.errors import SchemeError

EXACT = [
    ("Q4_0", INT4_F16),
    ("Q4_0", INT4_F32),
    ("Q4_0", INT4_MIN_F16),
    ("Q4_1", INT4_MIN_F16),
    ("Q8_0", INT8_F16),
]


@dataclass
class RawBlocks:
    """A matrix as bytes of a GGUF file, and its fields, parsed by hand."""

    kind: str
    raw: np.ndarray  # (n, bytes)
    q: np.ndarray
    scale: np.ndarray
    min: np.ndarray | None

    @staticmethod
    def of(kind: str, values: np.ndarray) -> RawBlocks:
        return RawBlocks.parse(kind, gguf.quantize(values, gguf.GGMLQuantizationType[kind]))

    @staticmethod
    def parse(kind: str, raw: np.ndarray) -> RawBlocks:
        """Parse ggml structs: scale, minimum (Q4_1), 32 int8 or 16 bytes (value i in the low half, i + 16 above)."""
        n = len(raw)
        header = 4 if kind == "Q4_1" else 2
        blocks = raw.reshape(n, -1, header + (32 if kind == "Q8_0" else 16))
        floats = np.ascontiguousarray(blocks[..., :header]).view(np.float16)
        body = np.ascontiguousarray(blocks[..., header:])
        q = body.view(np.int8) if kind == "Q8_0" else np.concatenate([body & 15, body >> 4], axis=-1)
        minimum = floats[..., 1] if kind == "Q4_1" else None
        return RawBlocks(kind, raw, q.reshape(n, -1), floats[..., 0], minimum)

    def dequantized(self) -> np.ndarray:
        return gguf.dequantize(self.raw, gguf.GGMLQuantizationType[self.kind])


@pytest.mark.parametrize(("kind", "fmt"), EXACT, ids=lambda value: getattr(value, "name", value))
@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 5),
    groups=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    exponent=st.floats(-9, 3.8),
    offset=st.sampled_from([0.0, 3.0]),
)
def test_blocks_keep_every_value(
    kind: str, fmt: Format, n: int, groups: int, seed: int, exponent: float, offset: float
) -> None:
    """Subnormal scales, and weights near the end of float16's range, included."""
    values = np.random.default_rng(seed).standard_normal((n, groups * 32)) + offset
    blocks = RawBlocks.of(kind, (values * 10**exponent).astype(np.float32))
    stored, tensors = pack_blocks(blocks, fmt)
    assert stored is fmt
    assert {s: (t.shape, str(t.dtype)) for s, t in tensors.items()} == fmt.tensors((n, groups * 32))
    assert np.array_equal(unpack(fmt, tensors, groups * 32), blocks.dequantized())


@pytest.mark.parametrize("kind", BLOCK_FORMATS)
def test_arbitrary_bytes_keep_every_value(kind: str) -> None:
    """Codes and scales that no quantizer writes, such as -128 in Q8_0 and negative scales."""
    rng = np.random.default_rng(1)
    sizes = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}
    raw = rng.integers(0, 256, size=(64, 3 * sizes[kind]), dtype=np.uint8)
    scales = raw.reshape(-1, sizes[kind])[:, : 4 if kind == "Q4_1" else 2]
    scales[:, 1::2] &= 0xBF  # exponents that are finite
    blocks = RawBlocks.parse(kind, raw)
    fmt, tensors = pack_blocks(blocks)
    assert fmt is BLOCK_FORMATS[kind]
    assert np.array_equal(unpack(fmt, tensors, 96), blocks.dequantized())


def test_which_blocks_fit_which_format() -> None:
    assert [(kind, fmt) for kind in BLOCK_FORMATS for fmt in FORMATS.values() if blocks_fit(kind, fmt)] == EXACT
    assert not any(blocks_fit(kind, fmt) for kind in ("F16", "Q4_K", "Q5_0") for fmt in FORMATS.values())


@pytest.mark.parametrize(
    ("fmt", "scale", "message"),
    [
        (INT4_MIN_F16, 9000.0, r"`w` holds values up to `7.2e\+04`, which float16"),
        (INT4_F16, np.nan, "`w` holds NaN or infinity"),
        (INT4_F16, np.inf, "`w` holds NaN or infinity"),
    ],
)
def test_scales_that_cannot_be_stored_are_refused(fmt: Format, scale: float, message: str) -> None:
    blocks = RawBlocks.of("Q4_0", np.ones((2, 64), np.float32))
    blocks.scale = blocks.scale.copy()
    blocks.scale[1, 1] = scale
    with pytest.raises(SchemeError, match=message):
        pack_blocks(blocks, fmt, name="w")


@pytest.mark.parametrize(("kind", "fmt"), EXACT, ids=lambda value: getattr(value, "name", value))
def test_blocks_of_experts_are_stored_like_each_alone(kind: str, fmt: Format) -> None:
    rng = np.random.default_rng(2)
    parts = [RawBlocks.of(kind, rng.standard_normal((5, 64)).astype(np.float32)) for _ in range(3)]
    minimum = np.stack([blocks.min for blocks in parts]) if kind == "Q4_1" else None
    stacked = RawBlocks(kind, parts[0].raw, np.stack([b.q for b in parts]), np.stack([b.scale for b in parts]), minimum)
    _, tensors = pack_blocks(stacked, fmt)
    assert {s: (t.shape, str(t.dtype)) for s, t in tensors.items()} == fmt.tensors((3, 5, 64))
    for i, blocks in enumerate(parts):
        _, alone = pack_blocks(blocks, fmt)
        assert all(np.array_equal(tensors[suffix][i], tensor) for suffix, tensor in alone.items())
