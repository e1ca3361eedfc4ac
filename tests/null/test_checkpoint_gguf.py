"""Read GGUF files written by the `gguf` package: types, names, changed layouts, configs, digests."""

from __future__ import annotations

import itertools
import json
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize, quantize
from zoo.file_bytes import BOOL, F32, I32, I64, STRING, U32, U64, Tensor, array, tiny_gguf, typed

from argosy.model_defs.checkpoint import gguf_file, open_checkpoint
from argosy.model_defs.checkpoint.gguf_file import UNREADABLE
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import read_model, read_spec
from argosy.support.errors import CheckpointError, UnsupportedModelError

READABLE = [kind for kind in GGMLQuantizationType if kind.name not in UNREADABLE]
ROWS, COLUMNS = 6, 512
FFN = "model.layers.0.mlp.up_proj.weight"


def _random_rows(kind: GGMLQuantizationType, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Make a stored matrix: quantized if `gguf` can, else random bytes."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, columns)).astype(np.float32)
    try:
        return quantize(values, kind)
    except NotImplementedError:
        block, width = GGML_QUANT_SIZES[kind]
        return rng.integers(0, 256, (rows, columns // block * width), dtype=np.uint8)


def _with_matrix(path: Path, kind: GGMLQuantizationType, raw: np.ndarray, columns: int = COLUMNS) -> Path:
    """Write a sound model whose `up_proj` is `raw`."""
    file = tiny_gguf().tensor("blk.0.ffn_up.weight", dims=(columns, len(raw)), data=raw.tobytes(), kind=int(kind))
    path.write_bytes(file.bytes())
    return path


@pytest.mark.parametrize("kind", READABLE, ids=lambda kind: kind.name)
def test_values_of_every_type(kind: GGMLQuantizationType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_file, "CHUNK", 2 * COLUMNS)  # three pieces
    raw = _random_rows(kind, ROWS, COLUMNS)
    checkpoint = open_checkpoint(_with_matrix(tmp_path / "x.gguf", kind, raw))
    with np.errstate(all="ignore"):
        expected = dequantize(raw, kind)
    got = checkpoint.read(FFN)
    assert checkpoint.stored_type(FFN) == kind.name
    assert checkpoint.shape(FFN) == got.shape == (ROWS, COLUMNS)
    assert got.dtype == (np.float16 if kind.name == "F16" else np.float32)
    np.testing.assert_array_equal(got.astype(np.float32), expected)


def test_every_type_is_either_read_or_refused() -> None:
    """A type added by a newer `gguf` must be sorted into one of the two."""
    for kind in READABLE:
        dequantize(_random_rows(kind, 1, COLUMNS), kind)
    for name in UNREADABLE:
        block, width = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
        with pytest.raises(NotImplementedError):
            dequantize(np.zeros((1, COLUMNS // block * width), np.uint8), GGMLQuantizationType[name])


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("name", ["attn_q", "attn_k", "ffn_up"])
def test_blocks_are_exact(kind: str, name: str, tmp_path: Path) -> None:
    """Also for q and k, whose rows are stored in another order."""
    number = GGMLQuantizationType[kind]
    rows = {"attn_q": 32, "attn_k": 16, "ffn_up": 32}[name]
    raw = _random_rows(number, rows, 32, seed=3)
    file = tiny_gguf().tensor(f"blk.0.{name}.weight", data=raw.tobytes(), kind=int(number))
    (tmp_path / "x.gguf").write_bytes(file.bytes())
    checkpoint = open_checkpoint(tmp_path / "x.gguf")
    ours = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "ffn_up": "mlp.up_proj"}[name]
    blocks = checkpoint.read_blocks(f"model.layers.0.{ours}.weight")
    assert blocks is not None and blocks.kind == kind
    assert blocks.q.dtype == (np.int8 if kind == "Q8_0" else np.uint8)
    assert blocks.scale.dtype == np.float16 and blocks.scale.shape == (rows, 1)
    assert (blocks.min is not None) == (kind == "Q4_1")
    np.testing.assert_array_equal(blocks.values(), checkpoint.read(f"model.layers.0.{ours}.weight"))
    assert checkpoint.read_blocks("model.norm.weight") is None


def _stored_by_llama_cpp(architecture: str, config: dict, name: str, values: np.ndarray) -> np.ndarray:
    """Change a Hugging Face tensor as llama.cpp's converter does."""
    heads = config.get("num_attention_heads", config.get("n_head"))
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        n = heads if "q_proj" in name else config["num_key_value_heads"]
        pairs = values.reshape(n, 2, len(values) // n // 2, *values.shape[1:])  # halves of a head
        return np.swapaxes(pairs, 1, 2).reshape(values.shape)  # neighbours
    if architecture == "gptneox" and "query_key_value" in name:
        by_head = values.reshape(heads, 3, -1, *values.shape[1:])
        return np.concatenate([by_head[:, i].reshape(-1, *values.shape[1:]) for i in range(3)])
    if architecture == "gpt2" and values.ndim == 2 and (".attn." in name or ".mlp." in name):
        return np.ascontiguousarray(values.T)
    if architecture == "gemma3" and name.endswith("norm.weight"):
        return values + 1
    return values


# Hugging Face model type -> GGUF architecture, changes to the family's tiny config that GGUF cannot leave out, keys.
FAMILY_ROWS = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", {}),
    "stablelm": ("stablelm", {"qk_layernorm": True, "use_qkv_bias": True}),
    "gpt_neox": ("gptneox", {"hidden_act": "gelu"}),
    "gpt2": ("gpt2", {}),
    "gemma3_text": ("gemma3", {"query_pre_attn_scalar": 32, "num_hidden_layers": 7, "sliding_window_pattern": 6}),
}


def _gguf_name(table: gguf.TensorNameMap, name: str) -> str:
    found = table.get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return found


def _write_family(path: Path, model_type: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Write a random tiny model, with names from `gguf`'s own table; return its config and tensors."""
    architecture, changes = FAMILY_ROWS[model_type]
    config = {**FAMILIES[model_type].tiny_config, **changes}
    model = read_model(SimpleNamespace(config=config, names=tuple))
    spec = model.spec
    rng = np.random.default_rng(5)
    tensors = {
        source.name: rng.standard_normal(source.shape).astype(np.float32)
        for parameter in model.parameters
        for source in parameter.sources
    }
    attention = spec.attention[0]
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(number, len(spec.layers))
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(len(spec.layers))
    writer.add_context_length(spec.context_window)
    writer.add_embedding_length(spec.hidden_size)
    writer.add_feed_forward_length(spec.layers[0].feed_forward.size)
    writer.add_head_count(attention.heads)
    writer.add_head_count_kv(attention.kv_heads)
    writer.add_key_length(attention.head_dim)
    writer.add_value_length(attention.head_dim)
    (writer.add_layer_norm_rms_eps if spec.norm.kind == "rms" else writer.add_layer_norm_eps)(spec.norm.eps)
    if spec.ropes:
        writer.add_rope_dimension_count(spec.ropes[0].rotary_dim)
        writer.add_rope_freq_base(1e6 if architecture == "gemma3" else 1e4)
    if architecture == "gemma3":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config["rope_scaling"]["factor"])
    if architecture in ("gptneox", "stablelm"):
        writer.add_parallel_residual(architecture == "gptneox")
    stacks: dict[str, list[np.ndarray]] = {}
    for name, values in tensors.items():
        if ".norms." in name:  # stablelm's norms of single heads are stacked
            kind = "attn_q_norm" if "q_layernorm" in name else "attn_k_norm"
            stacks.setdefault(f"blk.{name.split('.')[2]}.{kind}.weight", []).append(values)
        else:
            writer.add_tensor(_gguf_name(table, name), _stored_by_llama_cpp(architecture, config, name, values))
    for name, parts in stacks.items():
        writer.add_tensor(name, np.stack(parts))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return config, tensors


@pytest.mark.parametrize("model_type", FAMILY_ROWS)
def test_families_come_back(model_type: str, tmp_path: Path) -> None:
    """Names, values and the network are the same as before the conversion to GGUF."""
    config, tensors = _write_family(tmp_path / "x.gguf", model_type)
    checkpoint = open_checkpoint(tmp_path / "x.gguf")
    assert set(checkpoint.names()) == set(tensors)
    for name, values in tensors.items():
        got = checkpoint.read(name)
        assert checkpoint.shape(name) == got.shape == values.shape, name
        if model_type == "gemma3_text" and name.endswith("norm.weight"):
            np.testing.assert_array_equal(got, (values + 1) - 1)
        else:
            np.testing.assert_array_equal(got, values)
    assert json.loads(json.dumps(checkpoint.config)) == checkpoint.config
    assert read_spec(checkpoint.config) == read_spec(config)


def test_there_is_a_row_for_every_family() -> None:
    assert set(FAMILIES) - set(FAMILY_ROWS) == {"mistral", "gemma3"}  # llama, and a wrapper, in GGUF


def _opened(path: Path, file: object) -> object:
    path.write_bytes(file.bytes())  # type: ignore[attr-defined]
    return open_checkpoint(path)


def test_output_that_copies_the_embedding_is_tied(tmp_path: Path) -> None:
    file = tiny_gguf()
    embedding = file.tensors[0]
    assert open_checkpoint_config(tmp_path, file)["tie_word_embeddings"] is True
    copy = replace(embedding, name="output.weight")
    checkpoint = _opened(tmp_path / "copy.gguf", replace(file, tensors=(*file.tensors, copy)))
    assert checkpoint.config["tie_word_embeddings"] is True and "lm_head.weight" not in checkpoint.names()
    other = replace(copy, data=embedding.data[:-1] + b"\x01")
    checkpoint = _opened(tmp_path / "other.gguf", replace(file, tensors=(*file.tensors, other)))
    assert checkpoint.config["tie_word_embeddings"] is False and "lm_head.weight" in checkpoint.names()


def open_checkpoint_config(tmp_path: Path, file: object) -> dict:
    """Return the config of a file."""
    return _opened(tmp_path / "config.gguf", file).config


def test_rope_factors_reach_the_network(tmp_path: Path) -> None:
    """llama 3.1's `rope_freqs.weight` divides the frequencies, at every context window."""
    factors = np.array([1, 1, 1, 2, 3, 8, 8, 8], np.float32)
    extra = Tensor("rope_freqs.weight", (8,), factors.tobytes())
    file = tiny_gguf()
    plain = read_spec(open_checkpoint_config(tmp_path, file)).ropes[0]
    config = open_checkpoint_config(tmp_path, replace(file, tensors=(*file.tensors, extra)))
    for window in (None, 16):
        rope = read_spec(config, window).ropes[0]
        expected = np.array(plain.inverse_frequencies) / factors
        np.testing.assert_allclose(rope.inverse_frequencies, expected, rtol=1e-6)
        assert rope.magnitude == 1.0


def test_rope_scaling(tmp_path: Path) -> None:
    file = tiny_gguf().set("llama.rope.freq_base", typed(F32, 5e5))
    plain = read_spec(open_checkpoint_config(tmp_path, file)).ropes[0]
    assert plain.inverse_frequencies[1] == pytest.approx(5e5 ** (-2 / 16))
    scaled = file.set("llama.rope.scaling.type", typed(STRING, "linear")).set(
        "llama.rope.scaling.factor", typed(F32, 4)
    )
    linear = read_spec(open_checkpoint_config(tmp_path, scaled)).ropes[0]
    np.testing.assert_allclose(linear.inverse_frequencies, np.array(plain.inverse_frequencies) / 4, rtol=1e-6)
    old = read_spec(open_checkpoint_config(tmp_path, file.set("llama.rope.scale_linear", typed(F32, 4)))).ropes[0]
    assert old == linear
    yarn = scaled.set("llama.rope.scaling.type", typed(STRING, "yarn"))
    yarn = yarn.set("llama.rope.scaling.original_context_length", typed(U32, 16))
    assert open_checkpoint_config(tmp_path, yarn)["rope_scaling"] == {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "attention_factor": pytest.approx(0.1 * np.log(4) + 1),
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    }


def test_phi3_long_factors(tmp_path: Path) -> None:
    config, _ = _write_family(tmp_path / "x.gguf", "phi3")
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    writer = gguf.GGUFWriter(tmp_path / "y.gguf", "phi3")
    for field in reader.fields.values():
        if field.name.startswith("phi3."):
            writer.add_key_value(field.name, field.contents(), field.types[0])
    writer.add_rope_scaling_orig_ctx_len(32)
    writer.add_rope_scaling_attn_factors(1.25)
    long, short = np.linspace(1, 4, 8, dtype=np.float32), np.linspace(1, 2, 8, dtype=np.float32)
    writer.add_tensor("rope_factors_long.weight", long)
    writer.add_tensor("rope_factors_short.weight", short)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_checkpoint(tmp_path / "y.gguf")
    plain = np.array(read_spec(config).ropes[0].inverse_frequencies)
    for window, factors in ((32, short), (64, long)):
        rope = read_spec(checkpoint.config, window).ropes[0]
        np.testing.assert_allclose(rope.inverse_frequencies, plain / factors, rtol=1e-6)
        assert rope.magnitude == 1.25
    assert not any("factors" in name for name in checkpoint.names())


def test_version_2_and_other_alignments(tmp_path: Path) -> None:
    file = tiny_gguf()
    expected = _opened(tmp_path / "3.gguf", file).read(FFN)
    np.testing.assert_array_equal(_opened(tmp_path / "2.gguf", replace(file, version=2)).read(FFN), expected)
    wide = replace(file.set("general.alignment", typed(U32, 256)), alignment=256)
    np.testing.assert_array_equal(_opened(tmp_path / "256.gguf", wide).read(FFN), expected)


def test_per_layer_heads_that_agree(tmp_path: Path) -> None:
    file = tiny_gguf().set("llama.attention.head_count_kv", array(U32, [1]))
    assert open_checkpoint_config(tmp_path, file)["num_key_value_heads"] == 1


def test_a_directory_with_one_file(tmp_path: Path) -> None:
    _opened(tmp_path / "x.gguf", tiny_gguf())
    checkpoint = open_checkpoint(str(tmp_path))
    assert checkpoint.format == "gguf" and checkpoint.path == tmp_path / "x.gguf"


def test_digest(tmp_path: Path) -> None:
    file = tiny_gguf()
    first = _opened(tmp_path / "a.gguf", file).digest()
    assert _opened(tmp_path / "b.gguf", file).digest() == first
    changed = [
        file.set("llama.rope.freq_base", typed(F32, 5e5)),
        file.set("tokenizer.chat_template", typed(STRING, "x")),
        file.tensor("blk.0.ffn_up.weight", data=b"\1" + file.tensors[-2].data[1:]),
        file.tensor("blk.0.ffn_down.weight", data=file.tensors[-1].data[:-1] + b"\1"),
    ]
    digests = [first, *(_opened(tmp_path / f"{i}.gguf", other).digest() for i, other in enumerate(changed))]
    assert all(a != b for a, b in itertools.combinations(digests, 2))


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    checkpoint = _opened(path, tiny_gguf())
    with open(path, "r+b") as file:
        file.truncate(path.stat().st_size - 64)
    with pytest.raises(CheckpointError, match="truncated"):
        checkpoint.read("model.layers.0.mlp.down_proj.weight")


def test_reading_holds_one_tensor(tmp_path: Path) -> None:
    columns, rows = 1024, 4096  # 16 MB as float32
    raw = _random_rows(GGMLQuantizationType.Q8_0, rows, columns)
    path = _with_matrix(tmp_path / "x.gguf", GGMLQuantizationType.Q8_0, raw, columns)
    checkpoint = open_checkpoint(path)
    whole = rows * columns * 4
    tracemalloc.start()
    try:
        np.testing.assert_equal(checkpoint.read(FFN).nbytes, whole)
        assert tracemalloc.get_traced_memory()[1] < 1.8 * whole
        tracemalloc.reset_peak()
        checkpoint.digest()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_unknown_name_is_an_error(tmp_path: Path) -> None:
    checkpoint = _opened(tmp_path / "x.gguf", tiny_gguf())
    for read in (checkpoint.read, checkpoint.shape, checkpoint.stored_type, checkpoint.read_blocks):
        with pytest.raises(CheckpointError, match="no tensor `blk"):
            read("blk.0.ffn_up.weight")


NULLS = [(I32, -1), (U32, 2**32 - 1), (I64, -1), (U64, 2**64 - 1)]


@pytest.mark.parametrize(("kind", "value"), NULLS)
@pytest.mark.parametrize("token", ["padding", "bos", "eos", "unknown", "eot"])
def test_an_id_of_no_token_is_no_token(tmp_path: Path, token: str, kind: int, value: int) -> None:
    file = tiny_gguf().set(f"tokenizer.ggml.{token}_token_id", typed(kind, value))
    checkpoint = _opened(tmp_path / "x.gguf", file)
    files = checkpoint.tokenizer_files()
    assert f"{token}_token_id" not in checkpoint.config
    generation, settings = (json.loads(files[name]) for name in ("generation_config.json", "tokenizer_config.json"))
    assert value not in str(generation).split() and f"{token}_token" not in settings


ABSENT = [
    *(("pooling_type", U32, value) for value in range(5)),
    ("pooling_type", I32, -1),
    ("attention.sliding_window", U32, 0),
    ("attention.sliding_window", U32, 64),  # as long as the context
    ("rope.scaling.factor", F32, 0.0),
    ("rope.scale_linear", F32, 0.0),
    ("rope.scaling.attn_factor", F32, 1.0),
    ("rope.scaling.original_context_length", U32, 0),
    ("rope.scaling.yarn_log_multiplier", F32, 0.0),
    ("logit_scale", F32, 1.0),
    ("residual_scale", F32, 0.0),
    ("expert_count", U32, 0),
    ("expert_shared_count", U32, 0),
    ("expert_weights_norm", BOOL, False),
    ("final_logit_softcapping", F32, 0.0),
    ("attention.clamp_kqv", F32, 0.0),
    ("attention.layer_norm_epsilon", F32, 1e-5),
    ("nextn_predict_layers", U32, 0),
]


@pytest.mark.parametrize(("key", "kind", "value"), ABSENT)
def test_keys_that_say_what_a_model_lacks_change_nothing(tmp_path: Path, key: str, kind: int, value: float) -> None:
    plain = open_checkpoint_config(tmp_path, tiny_gguf())
    assert open_checkpoint_config(tmp_path, tiny_gguf().set(f"llama.{key}", typed(kind, value))) == plain


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("attention.sliding_window", U32, 63),
        ("logit_scale", F32, 0.5),
        ("expert_shared_count", U32, 1),
        ("final_logit_softcapping", F32, 30.0),
        ("nextn_predict_layers", U32, 1),
        ("attention.sliding_window_pattern", U32, 0),
        ("rope.scaling.type", STRING, ""),
    ],
)
def test_keys_that_would_change_the_model_are_refused(tmp_path: Path, key: str, kind: int, value: object) -> None:
    with pytest.raises(UnsupportedModelError):
        open_checkpoint_config(tmp_path, tiny_gguf().set(f"llama.{key}", typed(kind, value)))


def test_scaling_by_zero_or_by_one_is_no_scaling(tmp_path: Path) -> None:
    file = tiny_gguf().set("llama.rope.scaling.type", typed(STRING, "linear"))
    ropes = [
        read_spec(open_checkpoint_config(tmp_path, file.set("llama.rope.scaling.factor", typed(F32, factor)))).ropes
        for factor in (0.0, 1.0)
    ]
    assert ropes[0] == ropes[1] == read_spec(open_checkpoint_config(tmp_path, tiny_gguf())).ropes


def test_gemma_without_a_window_sees_everything(tmp_path: Path) -> None:
    _, tensors = _write_family(tmp_path / "gemma.gguf", "gemma3_text")
    data = (tmp_path / "gemma.gguf").read_bytes()
    key = b"gemma3.attention.sliding_window"
    at = data.index(struct.pack("<Q", len(key)) + key) + 8 + len(key)
    assert data[at : at + 8] == struct.pack("<II", U32, 24)
    (tmp_path / "wide.gguf").write_bytes(data[: at + 4] + bytes(4) + data[at + 8 :])
    spec = read_spec(open_checkpoint(tmp_path / "wide.gguf").config)
    assert {attention.window for attention in spec.attention} == {None}
    assert {attention.rope for attention in spec.attention} == {0}
    assert tensors


@pytest.mark.parametrize("name", ["Model.GGUF", "model.Gguf", "model"])
def test_a_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(tiny_gguf().bytes())
    assert open_checkpoint(tmp_path / name).format == "gguf"
    if name != "model":  # a directory of files needs one whose name says so
        assert open_checkpoint(tmp_path).format == "gguf"


@pytest.mark.parametrize("name", ["model.SAFETENSORS", "Pytorch_Model.BIN", "Config.JSON"])
def test_one_file_of_a_checkpoint_is_known_in_capitals(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(CheckpointError, match="is one file of a checkpoint"):
        open_checkpoint(tmp_path / name)
