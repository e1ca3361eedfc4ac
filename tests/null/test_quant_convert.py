"""Planning and conversion of a small fake checkpoint: formats, exactness, order, memory, and all errors."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import gguf
import numpy as np
import pytest

from argosy.model_defs.parameters import Parameter, Source
from argosy.quant.convert import check_sources, convert, expected_tensors
from argosy.quant.formats import unpack
from argosy.quant.plan import StoragePlan, choose_formats
from argosy.quant.scheme import F16, F32, INT4_F16, INT4_MIN_F16, INT8_F16, SCHEMES, Scheme
from argosy.support.errors import CheckpointError, SchemeError
from argosy.support.progress import SilentProgress

K = 64
SHAPES = {
    "embed": (40, K),
    "norm": (K,),
    "q": (24, K),
    "k": (8, K),
    "v": (8, K),
    "bias": (24,),
    "up": (16, K),
    "head": (40, K),
}


def params(*rows: tuple[str, str, tuple[str, ...]], adapt: str = "none", heads: int = 0) -> tuple[Parameter, ...]:
    """Make parameters from (name, kind, sources); a source is a name in SHAPES."""
    out = []
    for name, kind, sources in rows:
        n = sum(SHAPES[s][0] for s in sources)
        shape = (n, *SHAPES[sources[0]][1:])
        out.append(Parameter(name, kind, shape, tuple(Source(s, SHAPES[s], adapt, heads) for s in sources)))
    return tuple(out)


MODEL = params(
    ("model.embed_tokens", "embedding", ("embed",)),
    ("model.layers.0.input_layernorm.weight", "plain", ("norm",)),
    ("model.layers.0.self_attn.qkv_proj", "linear", ("q", "k", "v")),
    ("model.layers.0.self_attn.o_proj.bias", "plain", ("bias",)),
    ("model.layers.0.mlp.up_proj", "linear", ("up",)),
    ("lm_head", "linear", ("head",)),
)
QKV = "model.layers.0.self_attn.qkv_proj"


@dataclass
class FakeBlocks:
    kind: str
    q: np.ndarray
    scale: np.ndarray
    min: np.ndarray | None


@dataclass
class FakeCheckpoint:
    """Gaussian tensors under the names of SHAPES, each stored as `types` says (float32 by default)."""

    types: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=lambda: dict(SHAPES))
    alive: set[int] = field(default_factory=set)
    reads: list[str] = field(default_factory=list)

    def names(self) -> tuple[str, ...]:
        return tuple(reversed(self.shapes))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def stored_type(self, name: str) -> str:
        return self.types.get(name, "F32")

    def values(self, name: str) -> np.ndarray:
        """Return the values of the tensor, in float32."""
        rng = np.random.default_rng(sum(map(ord, name)))
        values = rng.standard_normal(self.shapes[name]).astype(np.float32)
        kind = self.stored_type(name)
        if kind == "F16":
            return values.astype(np.float16).astype(np.float32)
        if kind in ("F32", "BF16"):
            return values
        return gguf.dequantize(gguf.quantize(values, gguf.GGMLQuantizationType[kind]), gguf.GGMLQuantizationType[kind])

    def read(self, name: str) -> np.ndarray:
        self.reads.append(name)
        array = self.values(name).astype(np.float16 if self.stored_type(name) == "F16" else np.float32)
        self.alive.add(id(array))
        weakref.finalize(array, self.alive.discard, id(array))
        return array

    def read_blocks(self, name: str) -> FakeBlocks | None:
        kind = self.stored_type(name)
        if kind not in ("Q4_0", "Q4_1", "Q8_0"):
            return None
        values = self.values(name)
        raw = gguf.quantize(values, gguf.GGMLQuantizationType[kind]).reshape(len(values), K // 32, -1)
        header = 4 if kind == "Q4_1" else 2
        floats = np.ascontiguousarray(raw[..., :header]).view(np.float16)
        body = np.ascontiguousarray(raw[..., header:])
        q = body.view(np.int8) if kind == "Q8_0" else np.concatenate([body & 15, body >> 4], axis=-1)
        return FakeBlocks(kind, q.reshape(values.shape), floats[..., 0], floats[..., 1] if kind == "Q4_1" else None)


def run(
    parameters: tuple[Parameter, ...], scheme: Scheme, checkpoint: FakeCheckpoint, rounding: str = "full"
) -> tuple[StoragePlan, dict[str, np.ndarray]]:
    """Convert, and check that the tensors are the announced ones."""
    plan = choose_formats(parameters, scheme, checkpoint)
    tensors: dict[str, np.ndarray] = {}

    def sink(name: str, array: np.ndarray) -> None:
        assert name not in tensors
        assert array.flags.c_contiguous
        tensors[name] = array.copy()

    convert(parameters, plan, checkpoint, rounding, sink, SilentProgress(), ignorable=())
    assert [(name, a.shape, str(a.dtype)) for name, a in tensors.items()] == expected_tensors(parameters, plan)
    return plan, tensors


def decoded(parameter: Parameter, plan: StoragePlan, tensors: dict[str, np.ndarray]) -> np.ndarray:
    fmt = plan.format_of(parameter)
    if parameter.kind == "plain":
        return tensors[parameter.name].astype(np.float32)
    stored = {suffix: tensors[f"{parameter.name}.{suffix}"] for suffix in fmt.tensors(parameter.shape)}
    return unpack(fmt, stored, parameter.shape[1])


def wanted(parameter: Parameter, checkpoint: FakeCheckpoint) -> np.ndarray:
    return np.concatenate([s.rows(checkpoint.values(s.name)) for s in parameter.sources])


# Relative RMS error of Gaussian weights, by scheme.
ERROR = {"q0f32": 0, "q0f16": 3e-4, "q3f16_1": 0.19, "q4f16_1": 0.09, "q4f32_1": 0.09, "q8f16_1": 6e-3}


@pytest.mark.parametrize("name", ERROR)
def test_schemes_store_the_model(name: str) -> None:
    checkpoint = FakeCheckpoint()
    plan, tensors = run(MODEL, SCHEMES[name], checkpoint)
    assert plan.notes == ()
    assert checkpoint.reads == [source.name for p in MODEL for source in p.sources]
    for parameter in MODEL:
        values = wanted(parameter, checkpoint)
        error = np.sqrt(((decoded(parameter, plan, tensors) - values) ** 2).mean() / (values**2).mean())
        plain = 0 if plan.plain is F32 else 3e-4
        assert error <= (plain if parameter.kind == "plain" else ERROR[name]), parameter.name


def test_every_scheme_is_tested() -> None:
    assert {*ERROR, "keep"} == set(SCHEMES)


def test_names_and_order() -> None:
    plan = choose_formats(MODEL, SCHEMES["q4f16_1"], FakeCheckpoint())
    assert expected_tensors(MODEL, plan)[:5] == [
        ("model.embed_tokens.q_weight", (40, 8), "uint32"),
        ("model.embed_tokens.q_scale", (40, 2), "float16"),
        ("model.layers.0.input_layernorm.weight", (64,), "float16"),
        ("model.layers.0.self_attn.qkv_proj.q_weight", (40, 8), "uint32"),
        ("model.layers.0.self_attn.qkv_proj.q_scale", (40, 2), "float16"),
    ]
    names = [name for name, _, _ in expected_tensors(MODEL, choose_formats(MODEL, SCHEMES["q0f32"], FakeCheckpoint()))]
    assert names[2] == "model.layers.0.self_attn.qkv_proj.weight"


def test_rounding_reaches_the_weights() -> None:
    _, rtn = run(MODEL, SCHEMES["q4f16_1"], FakeCheckpoint(), "rtn")
    _, full = run(MODEL, SCHEMES["q4f16_1"], FakeCheckpoint(), "full")
    assert (rtn["lm_head.q_scale"] > 0).all()
    assert (full["lm_head.q_scale"] < 0).any()


@pytest.mark.parametrize(
    ("q", "k", "v", "fmt"),
    [
        ("Q4_0", "Q4_0", "Q4_0", INT4_F16),
        ("Q4_1", "Q4_1", "Q4_1", INT4_MIN_F16),
        ("Q4_0", "Q4_1", "Q4_0", INT4_MIN_F16),
        ("Q8_0", "Q8_0", "Q8_0", INT8_F16),
        ("F32", "F32", "BF16", F32),
        ("F16", "F16", "F16", F16),
        ("F16", "BF16", "F16", F32),
    ],
)
def test_keep_loses_nothing(q: str, k: str, v: str, fmt: object) -> None:
    checkpoint = FakeCheckpoint({"q": q, "k": k, "v": v, "embed": "Q8_0"})
    plan, tensors = run(MODEL, SCHEMES["keep"], checkpoint)
    assert plan.formats[QKV] is fmt
    assert plan.notes == ()
    for parameter in MODEL:
        assert np.array_equal(decoded(parameter, plan, tensors), wanted(parameter, checkpoint)), parameter.name


@pytest.mark.parametrize(
    ("types", "note"),
    [
        ({"q": "Q4_0", "k": "Q4_0", "v": "Q8_0"}, "1 matrix stored as Q4_0 and Q8_0 cannot be kept"),
        ({"q": "F16", "k": "Q8_0", "v": "Q8_0"}, "1 matrix stored as F16 and Q8_0 cannot be kept"),
        ({"q": "Q5_0", "k": "Q5_0", "v": "Q5_0"}, "1 matrix stored as Q5_0 cannot be kept"),
    ],
)
def test_keep_says_what_it_cannot_keep(types: dict[str, str], note: str) -> None:
    checkpoint = FakeCheckpoint({**types, "embed": "Q8_0"})
    plan, tensors = run(MODEL, SCHEMES["keep"], checkpoint)
    assert plan.formats[QKV] is F16
    assert plan.notes == (f"{note} and became 16-bit floats",)
    values = wanted(MODEL[2], checkpoint)
    assert np.array_equal(decoded(MODEL[2], plan, tensors), values.astype(np.float16).astype(np.float32))


def test_keep_needs_something_to_keep() -> None:
    with pytest.raises(SchemeError, match="but the checkpoint holds `F16, F32` only") as caught:
        choose_formats(MODEL, SCHEMES["keep"], FakeCheckpoint({"q": "F16"}))
    assert "q4f16_1" in (caught.value.hint or "")


def test_rows_are_reordered_in_blocks_too() -> None:
    """The interleaved q, k, v rows of one tensor, kept in its own blocks."""
    parameters = params((QKV, "linear", ("q",)), adapt="interleaved_qkv", heads=4)
    checkpoint = FakeCheckpoint({"q": "Q4_1"}, {"q": SHAPES["q"]})
    plan, tensors = run(parameters, SCHEMES["keep"], checkpoint)
    assert checkpoint.reads == []
    assert not np.array_equal(wanted(parameters[0], checkpoint), checkpoint.values("q"))
    assert np.array_equal(decoded(parameters[0], plan, tensors), wanted(parameters[0], checkpoint))


@pytest.mark.parametrize("kind", ["F32", "Q4_1"])
def test_experts_are_stacked(kind: str) -> None:
    """Each source is the matrix of one expert."""
    sources = tuple(Source(name, SHAPES[name], "row") for name in ("k", "v"))
    experts = Parameter("experts", "linear", (2, *SHAPES["k"]), sources)
    checkpoint = FakeCheckpoint({"k": kind, "v": kind}, {name: SHAPES[name] for name in ("k", "v")})
    plan, tensors = run((experts,), SCHEMES["keep" if kind == "Q4_1" else "q4f32_1"], checkpoint)
    fmt = plan.format_of(experts)
    stored = {suffix: tensors[f"experts.{suffix}"] for suffix in fmt.tensors(experts.shape)}
    for i, name in enumerate(("k", "v")):
        alone = {suffix: tensor[i] for suffix, tensor in stored.items()}
        error = np.abs(unpack(fmt, alone, K) - checkpoint.values(name)).max()
        assert error == 0 if kind == "Q4_1" else error < 0.5


def test_transposed_blocks_cannot_be_kept() -> None:
    source = Source("q", SHAPES["q"], "transpose")
    parameters = (Parameter(QKV, "linear", (K, 24), (source,)),)
    checkpoint = FakeCheckpoint({"q": "Q4_0"}, {"q": SHAPES["q"]})
    plan, tensors = run(parameters, SCHEMES["keep"], checkpoint)
    assert plan.formats[QKV] is F16
    assert len(plan.notes) == 1
    np.testing.assert_allclose(decoded(parameters[0], plan, tensors), checkpoint.values("q").T, rtol=1e-3)


def test_a_second_rounding_is_announced() -> None:
    types = {"embed": "Q8_0", "q": "Q4_1", "k": "Q4_1", "v": "Q4_1", "up": "Q4_1", "head": "Q4_0"}
    plan, _ = run(MODEL, SCHEMES["q4f16_1"], FakeCheckpoint(types))
    assert plan.notes == (
        "2 matrices stored as Q4_1, requantized to q4f16_1; for CPUs, --quantization keep loses nothing",
        "1 matrix stored as Q8_0, requantized to q4f16_1; for CPUs, --quantization keep loses nothing",
    )
    assert choose_formats(MODEL, SCHEMES["q0f16"], FakeCheckpoint(types)).notes == ()
    (note,) = choose_formats(MODEL, SCHEMES["q4f16_1"], FakeCheckpoint({"q": "Q6_K", "k": "Q6_K", "v": "Q6_K"})).notes
    assert "keep" not in note


@pytest.mark.parametrize("rounding", ["rtn", "full"])
def test_blocks_of_the_same_kind_are_never_rounded_again(rounding: str) -> None:
    checkpoint = FakeCheckpoint({"head": "Q4_0"})
    plan, tensors = run(MODEL, SCHEMES["q4f16_1"], checkpoint, rounding)
    assert np.array_equal(decoded(MODEL[-1], plan, tensors), checkpoint.values("head"))


@pytest.mark.parametrize("scheme", ["q0f32", "q0f16", "q4f16_1"])
def test_one_source_and_one_parameter_are_alive_at_a_time(scheme: str) -> None:
    given: list[weakref.ref] = []

    class Watched(FakeCheckpoint):
        def read(self, name: str) -> np.ndarray:
            assert not self.alive, "the source before is still there"
            assert not any(ref() is not None for ref in given), "the parameter before is still there"
            return super().read(name)

    checkpoint = Watched()
    plan = choose_formats(MODEL, SCHEMES[scheme], checkpoint)
    convert(
        MODEL,
        plan,
        checkpoint,
        "full",
        lambda name, array: given.append(weakref.ref(array)),
        SilentProgress(),
        ignorable=(),
    )
    assert len(given) == len(expected_tensors(MODEL, plan))


def test_progress_counts_bytes() -> None:
    reports: list[tuple[str, int, int, str]] = []

    class Listener:
        def report(self, stage: str, done: int, total: int, unit: str = "steps") -> None:
            reports.append((stage, done, total, unit))

    plan = choose_formats(MODEL, SCHEMES["q4f16_1"], FakeCheckpoint())
    sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for _, shape, dtype in expected_tensors(MODEL, plan)]
    convert(MODEL, plan, FakeCheckpoint(), "full", lambda name, array: None, Listener(), ignorable=())
    assert [done for _, done, _, _ in reports] == [0, *np.cumsum(sizes).tolist()]
    assert {(stage, total, unit) for stage, _, total, unit in reports} == {("convert weights", sum(sizes), "bytes")}


def refused(checkpoint: FakeCheckpoint, parameters: tuple[Parameter, ...] = MODEL) -> str:
    """Return the message, after checking that nothing was written."""
    given: list[str] = []
    plan = choose_formats(MODEL, SCHEMES["q0f32"], FakeCheckpoint())
    with pytest.raises(CheckpointError) as caught:
        convert(
            parameters, plan, checkpoint, "full", lambda name, array: given.append(name), SilentProgress(), ignorable=()
        )
    assert given == []
    assert caught.value.hint
    return caught.value.message


def test_missing_tensors_are_named() -> None:
    shapes = {name: shape for name, shape in SHAPES.items() if name not in ("k", "up")}
    assert refused(FakeCheckpoint(shapes=shapes)) == "the checkpoint lacks `k`, `up`"
    assert refused(FakeCheckpoint(shapes={"embed": (40, K)})).endswith("`norm`, `q`, `k`, `v`, `bias` and 2 more")


def test_wrong_shapes_are_named() -> None:
    shapes = {**SHAPES, "k": (8, K + 32), "bias": (24, 1)}
    message = refused(FakeCheckpoint(shapes=shapes))
    assert message.endswith("`k` [8, 96] instead of [8, 64], `bias` [24, 1] instead of [24]")


def test_left_over_tensors_are_named() -> None:
    shapes = {**SHAPES, **{f"model.layers.0.experts.{i}.weight": (2, 2) for i in range(7)}}
    message = refused(FakeCheckpoint(shapes=shapes))
    assert message.endswith("`model.layers.0.experts.3.weight`, `model.layers.0.experts.4.weight` and 2 more")


def test_names_from_a_file_stay_on_their_line() -> None:
    message = refused(FakeCheckpoint(shapes={**SHAPES, "a\n\x1b[31m" + "b" * 500: (1,)}))
    assert message.isprintable()
    assert "`a \\x1b[31mbb" in message
    assert len(message) < 250


def test_only_the_named_tensors_are_passed_over() -> None:
    names = ("h.0.attn.bias", "lm_head.weight")
    check_sources(MODEL, FakeCheckpoint(shapes={**SHAPES, **dict.fromkeys(names, (2,))}), names)
    for left, ignorable in (("h.1.attn.bias", names), ("h.0.attn.bias", ()), ("h.0.attn.bias", ("*.bias",))):
        with pytest.raises(CheckpointError, match=f"no use for: `{left}`"):
            check_sources(MODEL, FakeCheckpoint(shapes={**SHAPES, left: (2,)}), ignorable)


def test_a_bad_weight_is_named_as_the_checkpoint_names_it() -> None:
    class Damaged(FakeCheckpoint):
        def values(self, name: str) -> np.ndarray:
            values = super().values(name)
            if name == "v":
                values[3, 5] = np.nan
            return values

    plan = choose_formats(MODEL, SCHEMES["q4f16_1"], Damaged())
    with pytest.raises(SchemeError, match="`v` holds NaN or infinity"):
        convert(MODEL, plan, Damaged(), "full", lambda name, array: None, SilentProgress(), ignorable=())
