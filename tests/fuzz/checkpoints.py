"""Fuzz the readers of checkpoints: each file of a directory, GGUF and PyTorch files, and JSON itself."""

from __future__ import annotations

import io
import json
import random
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from fuzz.mutate import changed_bytes, changed_gguf, changed_json, changed_safetensors
from fuzz.target import Files, Genome, Target, WrongReadError, data_of, expect
from zoo.file_bytes import safetensors, tiny_data, tiny_directory, tiny_gguf, tiny_header

from argosy.dist.chat_config import make_chat_config
from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.read import read_model
from argosy.support.errors import ArgosyError
from argosy.support.strict_json import JsonError, parse_json


def use_checkpoint(path: Path) -> None:
    """Use a checkpoint as a build does."""
    checkpoint = open_checkpoint(path)
    for name in checkpoint.names():
        values = checkpoint.read(name)
        expect(values.shape == tuple(checkpoint.shape(name)), name, values.shape)
        checkpoint.read_blocks(name)
    expect(checkpoint.digest() == open_checkpoint(path).digest())
    json.dumps(checkpoint.config, allow_nan=False)
    files = checkpoint.tokenizer_files()
    for name, data in files.items():
        if name.endswith(".json"):
            expect(isinstance(parse_json(data), dict), name)


def _use_safetensors(path: Path) -> None:
    from safetensors.numpy import load

    checkpoint = open_checkpoint(path)
    ours = {name: (checkpoint.stored_type(name), checkpoint.read(name)) for name in checkpoint.names()}
    data = (path / "model.safetensors").read_bytes()
    try:
        theirs = load(data)
    except Exception as error:
        if any(kind == "BF16" for kind, _ in ours.values()):  # which numpy does not have
            return
        raise WrongReadError("the safetensors library refuses it", error) from error
    expect(set(theirs) == set(ours))
    for name, (_, values) in ours.items():
        with np.errstate(all="ignore"):
            expect(np.array_equal(values, theirs[name].astype(values.dtype), equal_nan=values.dtype.kind == "f"), name)


def _use_gguf(path: Path) -> None:
    use_checkpoint(path / "x.gguf")
    if _now_and_then(path / "x.gguf", 4):
        _compare_gguf(path / "x.gguf")


def _compare_gguf(path: Path) -> None:
    from gguf import GGUFReader

    from argosy.model_defs.checkpoint.gguf_file import GgufFile

    ours, theirs = GgufFile(path), GGUFReader(path)
    expect({tensor.name for tensor in theirs.tensors} == set(ours.tensors))
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        expect(tuple(int(n) for n in reversed(tensor.shape)) == info.shape, tensor.name)
        expect(tensor.tensor_type == info.kind and tensor.data_offset == info.start, tensor.name)
        expect(tensor.data.tobytes() == ours.raw(info).tobytes(), tensor.name)
    for key, value in ours.metadata.items():
        field = theirs.fields[key]
        if isinstance(value, str):
            expect(bytes(field.parts[field.data[0]]).decode() == value, key)
        elif isinstance(value, list):
            expect([bytes(field.parts[i]).decode() for i in field.data] == value, key)


def _now_and_then(path: Path, n: int) -> bool:
    """Return True for one in `n` files, chosen by content: reference readers are slow."""
    return zlib.crc32(path.read_bytes()) % n == 0


def _config_seeds() -> list[bytes]:
    ropes: list[dict[str, object]] = [
        {"rope_type": "linear", "factor": 2.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
        {"rope_type": "longrope", "long_factor": [1.0] * 8, "short_factor": [1.0] * 8, "factor": 1.0},
    ]
    extra = {"bos_token_id": 0, "eos_token_id": [1, 2], "tie_word_embeddings": True, "torch_dtype": "float32"}
    configs = [{**family.tiny_config, **extra} for family in FAMILIES.values()]
    configs += [{**FAMILIES["llama"].tiny_config, "rope_scaling": rope} for rope in ropes]
    configs += [{**FAMILIES["llama"].tiny_config, "rope_parameters": {**rope, "rope_theta": 1e4}} for rope in ropes]
    return [json.dumps(config).encode() for config in configs]


def _use_config(path: Path) -> None:
    data = (path / "config.json").read_bytes()
    checkpoint = open_checkpoint(path)
    expect(checkpoint.config == json.loads(data))
    model = read_model(SimpleNamespace(config=checkpoint.config, names=tuple))
    expect(model.spec == read_model(SimpleNamespace(config=checkpoint.config, names=tuple)).spec)
    for rope in model.spec.ropes:
        expect(all(0 < f < float("inf") for f in rope.inverse_frequencies) and rope.magnitude > 0)
    expect(1 <= model.spec.context_window < 1 << 31)


def _directory_with(name: str) -> Callable[[Genome], Files]:
    return lambda genome: {**tiny_directory().files, name: data_of(genome)}


def _safetensors_seeds() -> list[bytes]:
    shapes = {"a": ("BF16", [2, 3], 12), "b": ("F64", [1], 8), "c": ("I64", [0, 2], 0), "d": ("BOOL", [], 1)}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, shape, size) in shapes.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    return [safetensors(tiny_header(), tiny_data()), safetensors(header, bytes(range(at)))]


def _gguf_seeds() -> list[Genome]:
    from zoo.vocabularies import write_vocabulary

    with tempfile.TemporaryDirectory() as folder:
        pieces = write_vocabulary(Path(folder) / "v.gguf", None).read_bytes()
    return [tiny_gguf()] * 12 + [pieces]


def _changed_gguf(genome: Genome, rng: random.Random) -> Genome:
    if isinstance(genome, bytes):
        return changed_bytes(genome, rng, 2000)
    return changed_bytes(genome.bytes(), rng, 2500) if rng.random() < 0.3 else changed_gguf(genome, rng)


def _gguf_files(genome: Genome) -> Files:
    return {"x.gguf": genome if isinstance(genome, bytes) else genome.bytes()}


def _index_files(genome: Genome) -> Files:
    x, y = (name for name in tiny_header())
    shards = {
        "model-00001-of-00002.safetensors": safetensors({x: tiny_header()[x]}, tiny_data()[:128]),
        "model-00002-of-00002.safetensors": safetensors(
            {y: {**tiny_header()[y], "data_offsets": [0, 12]}}, tiny_data()[128:]
        ),
    }
    rest = tiny_directory().set("model.safetensors", None).files
    return {**rest, **shards, "model.safetensors.index.json": data_of(genome)}


def _index_seeds() -> list[bytes]:
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    places = dict(zip(tiny_header(), names, strict=True))
    return [json.dumps({"metadata": {"total_size": 140}, "weight_map": places}).encode()]


SMALL = {
    "tokenizer_config.json": {
        "tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False},
        "add_bos_token": True, "chat_template": "{{ messages }}", "model_max_length": 64, "extra_special_tokens": {},
        "added_tokens_decoder": {"3": {"content": "<s>", "special": True}, "4": {"content": "</s>", "special": True}},
    },
    "special_tokens_map.json": {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None},
    "added_tokens.json": {"<s>": 3, "</s>": 4},
    "generation_config.json": {
        "do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.1,
        "eos_token_id": [1, 2], "bos_token_id": 0, "pad_token_id": 0, "min_p": 0.0,
    },
    "chat_template.json": {"chat_template": "{{ messages }}"},
    "vocab.json": {"a": 0, "b": 1, "ab": 2},
}  # fmt: skip


def _small_seeds() -> list[bytes]:
    """Return all small files of a tokenizer as one document, so that one change may touch any of them."""
    return [json.dumps(SMALL).encode(), json.dumps({**SMALL, "merges.txt": "#version: 0.2\na b\n"}).encode()]


def _small_files(genome: Genome) -> Files:
    """Split the document into the files of a directory; what is no document becomes each of them."""
    files = dict(tiny_directory().files)
    try:
        parts = json.loads(data_of(genome))
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, dict):
        return {**files, **dict.fromkeys(SMALL, data_of(genome))}
    if "merges.txt" in parts:
        del files["tokenizer.json"]
    for name, part in parts.items():
        if name in SMALL or name == "merges.txt":
            files[name] = part.encode("utf-8", "replace") if name == "merges.txt" and isinstance(part, str) else (
                json.dumps(part).encode()
            )  # fmt: skip
    return files


def _use_small_files(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    files = checkpoint.tokenizer_files()
    config = make_chat_config(
        model_type="llama", quantization="q4f16_1", model_config=checkpoint.config, vocab_size=8,
        context_window_size=64, prefill_chunk_size=64, max_batch_size=1, tokenizer_files=files,
    )  # fmt: skip
    json.dumps(config.to_json(), allow_nan=False)


def _torch_seeds() -> list[bytes]:
    import torch

    base = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": base, "b": base.t(), "c": base.half()[1:], "d": torch.tensor(True), "e": base.bfloat16()}
    out = []
    for modern in (True, False):
        file = io.BytesIO()
        torch.save(tensors, file, _use_new_zipfile_serialization=modern)
        out.append(file.getvalue())
    return out


def _changed_torch(genome: Genome, rng: random.Random) -> Genome:
    """Change a PyTorch file: its bytes, or the pickle in its archive."""
    data = data_of(genome)
    if rng.random() < 0.4:
        return changed_bytes(data, rng, len(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return changed_bytes(data, rng, 1000)
    name = rng.choice([*members, *[member for member in members if member.endswith("data.pkl")] * 5])
    members[name] = changed_bytes(members[name], rng, len(members[name]) or 1)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return file.getvalue()


def _torch_files(genome: Genome) -> Files:
    return {**tiny_directory().set("model.safetensors", None).files, "pytorch_model.bin": data_of(genome)}


def _json_seeds() -> list[bytes]:
    return [*_config_seeds(), json.dumps(SMALL).encode(), b'["\\ud83d\\ude00", 1e5, {"a": {"b": [null, true]}}]']


def _use_json(path: Path) -> None:
    data = (path / "x.json").read_bytes()
    try:
        value = parse_json(data)
    except JsonError as problem:
        raise ArgosyError(f"`x.json` {problem}", "-") from None
    expect(value == json.loads(data))
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


def changed(genome: Genome, rng: random.Random) -> Genome:
    """Change a JSON document."""
    return changed_json(data_of(genome), rng)


def _changed_safetensors(genome: Genome, rng: random.Random) -> Genome:
    return changed_safetensors(data_of(genome), rng)


CHECKPOINTS = (
    Target("json", 2, _json_seeds, changed, lambda genome: {"x.json": data_of(genome)}, _use_json),
    Target(
        "safetensors",
        3,
        _safetensors_seeds,
        _changed_safetensors,
        _directory_with("model.safetensors"),
        _use_safetensors,
    ),
    Target("gguf", 4, _gguf_seeds, _changed_gguf, _gguf_files, _use_gguf),
    Target("config", 3, _config_seeds, changed, _directory_with("config.json"), _use_config),
    Target("index", 1, _index_seeds, changed, _index_files, use_checkpoint),
    Target("small", 2, _small_seeds, changed, _small_files, _use_small_files),
    Target("torch", 1, _torch_seeds, _changed_torch, _torch_files, use_checkpoint),
)
