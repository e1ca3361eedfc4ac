"""The zoo of malformed checkpoints, each with words of the error that must refuse it."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from zoo.file_bytes import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    TOKENIZER,
    TOKENS,
    U8,
    U32,
    U64,
    Directory,
    Gguf,
    Tensor,
    array,
    safetensors,
    text,
    tiny_data,
    tiny_directory,
    tiny_gguf,
    tiny_header,
    typed,
)

Content = bytes | Directory | Callable[[Path], Path]
Entry = tuple[str, Content, str]


@dataclass(frozen=True)
class Case:
    """A malformed checkpoint, and words that its error must contain."""

    name: str
    path: Path
    reason: str


def zoo(tmp_path: Path) -> list[tuple[str, Path]]:
    """Write malformed checkpoints below `tmp_path`; return their names and paths.

    Each must be refused with an ArgosyError by `open_checkpoint`, by reading its tensors or by its tokenizer files.
    """
    return [(case.name, case.path) for case in cases(tmp_path)]


def entries() -> list[Entry]:
    """List all entries of the zoo: name, content, reason."""
    return [*_directories(), *_tokenizers(), *_bins(), *_ggufs()]


def cases(tmp_path: Path) -> list[Case]:
    """Write the zoo below `tmp_path`."""
    out = []
    for name, content, reason in entries():
        path = tmp_path / name
        if isinstance(content, bytes):
            path = path.with_suffix(".gguf")
            path.write_bytes(content)
        elif isinstance(content, Directory):
            path.mkdir()
            for file, data in content.files.items():
                (path / file).write_bytes(data)
        else:
            path = content(path)
        out.append(Case(name, path, reason))
    return out


def _directories() -> Iterator[Entry]:
    """Yield directories with a wrong layout or config, then safetensors files, then indexes."""
    good = tiny_directory()
    yield "path-missing", lambda path: path, "does not exist"
    yield "path-null-byte", lambda path: path.with_name("a\0b"), "cannot be read"
    yield "path-too-long", lambda path: path.with_name("x" * 5000), "cannot be read"
    yield "path-text-file", lambda path: _wrote(path, b"hello"), "neither a directory nor a GGUF file"
    yield "path-empty-file", lambda path: _wrote(path, b""), "neither a directory nor a GGUF file"
    yield "path-pipe", lambda path: (os.mkfifo(path), path)[1], "not a regular file"
    yield "path-loop", lambda path: (path.symlink_to(path), path)[1], "cannot be read"
    yield (
        "path-one-shard",
        lambda path: _wrote(path.with_suffix(".safetensors"), good.files["model.safetensors"]),
        "one file",
    )
    yield "directory-empty", Directory(), "no `config.json`"
    yield "directory-two-ggufs", Directory({"a.gguf": b"", "b.gguf": b""}), "2 GGUF files"
    yield "config-missing", good.set("config.json", None), "no `config.json`"
    yield "weights-missing", good.set("model.safetensors", None), "holds no weights"
    yield "weights-adapter", Directory({"config.json": b"{}", "adapter_config.json": b"{}"}), "holds no weights"
    yield (
        "weights-gguf-beside-config",
        Directory({"config.json": b"{}", "m.gguf": tiny_gguf().bytes()}),
        "holds no weights",
    )
    for name, content, reason in (
        ("empty", b"", "not JSON"),
        ("text", b"hello", "not JSON"),
        ("list", b"[1, 2]", "holds a list"),
        ("string", b'"llama"', "holds a str"),
        ("truncated", b'{"model_type": "lla', "not JSON"),
        ("latin1", '{"model_type": "ll\xe4ma"}'.encode("latin-1"), "not UTF-8"),
        ("nested", b'{"a":' + b"[" * 100_000, "nested too deeply"),
        ("twice", b'{"model_type": "llama", "model_type": "gpt2"}', "twice"),
        ("long-number", b'{"vocab_size": ' + b"9" * 5000 + b"}", "4300 digits"),
        ("infinity", b'{"model_type": "llama", "x": Infinity}', "holds `Infinity`"),
        ("not-a-number", b'{"model_type": "llama", "x": {"y": [NaN]}}', "holds `NaN`"),
        ("overflow", b'{"model_type": "llama", "x": 1e400}', "holds the number `1e400`"),
        ("half-character", b'{"model_type": "llama", "x": "\\ud800"}', "half of a character"),
        ("deep", b'{"x": ' + b"[" * 100 + b"]" * 100 + b"}", "nested too deeply"),
        ("huge", b'{"x": [' + b"{}," * 800_000 + b"0]}", "would need more than 128 MiB"),
        ("quantized", b'{"quantization_config": {"quant_method": "gptq"}}', "already quantized with `gptq`"),
    ):
        yield f"config-{name}", good.set("config.json", content), reason
    yield "config-directory", lambda path: _with(path, good, "config.json", lambda p: p.mkdir()), "not a regular file"
    yield "config-pipe", lambda path: _with(path, good, "config.json", os.mkfifo), "not a regular file"
    yield "weights-pipe", lambda path: _with(path, good, "model.safetensors", os.mkfifo), "not a regular file"
    yield "weights-directory", lambda path: _with(path, good, "model.safetensors", lambda p: p.mkdir()), "not a regular"
    for name, data, reason in _safetensors_files():
        yield f"safetensors-{name}", good.set("model.safetensors", data), reason
    yield from _indexes(good.set("model.safetensors", None))


def _wrote(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _with(path: Path, directory: Directory, name: str, make: Callable[[Path], object]) -> Path:
    """Write `directory`, with something other than a file at `name`."""
    path.mkdir()
    for file, data in directory.set(name, None).files.items():
        (path / file).write_bytes(data)
    make(path / name)
    return path


def _safetensors_files() -> Iterator[tuple[str, bytes, str]]:
    header, data = tiny_header(), tiny_data()
    whole = safetensors(header, data)

    def changed(**entry: object) -> bytes:
        return safetensors({**header, "y.weight": {**header["y.weight"], **entry}}, data)

    yield "empty", b"", "too few"
    yield "seven-bytes", b"\x10\0\0\0\0\0\0", "too few"
    yield "length-zero", safetensors(header, data, 0), "claims a header of `0`"
    yield "length-huge", safetensors(header, data, (1 << 64) - 1), "claims a header"
    yield "length-beyond", safetensors(header, data, len(whole)), "claims a header"
    yield "length-short", safetensors(header, data, 20), "not JSON"
    yield "header-text", safetensors(b"hello world", data), "not JSON"
    yield "header-list", safetensors([], data), "holds a list"
    yield "header-binary", safetensors(b'{"\xff": 1}', data), "not UTF-8"
    yield "header-nested", safetensors(b'{"a":' + b"[" * 100_000, data), "nested too deeply"
    yield "header-twice", safetensors(b'{"a": 1, "a": 2}', data), "twice"
    for label, value in (("text", ".."), ("list", []), ("number", {"format": 1}), ("null", {"format": None})):
        yield f"metadata-{label}", safetensors({"__metadata__": value, **header}, data), "not a table of texts"
    yield "entry-list", safetensors({"a": [1]}, data), "not described by"
    yield "entry-incomplete", safetensors({"a": {"dtype": "F32", "shape": [1]}}, data), "not described by"
    yield "entry-extra", changed(stride=[1]), "not described by"
    yield "dtype-unknown", changed(dtype="F33"), "unknown dtype `F33`"
    yield "dtype-number", changed(dtype=7), "unknown dtype `7`"
    yield "dtype-f8", changed(dtype="F8_E4M3"), "stored as `F8_E4M3`"
    yield "shape-negative", changed(shape=[-6]), "short list of sizes"
    yield "shape-float", changed(shape=[6.0]), "short list of sizes"
    yield "shape-bool", changed(shape=[True]), "short list of sizes"
    yield "shape-text", changed(shape="6"), "short list of sizes"
    yield "shape-overflow", changed(shape=[1 << 62, 1 << 62]), "its offsets span"
    yield "shape-many", changed(shape=[1] * 99), "short list of sizes"
    yield "shape-mismatch", changed(shape=[7]), "its offsets span"
    yield "offsets-reversed", changed(data_offsets=[140, 128]), "not a range"
    yield "offsets-negative", changed(data_offsets=[-12, 0]), "not a range"
    yield "offsets-three", changed(data_offsets=[0, 128, 140]), "not a range"
    yield "offsets-beyond", changed(data_offsets=[1 << 40, (1 << 40) + 12]), "gap"
    yield "tensors-overlap", changed(data_offsets=[120, 132]), "overlaps"
    yield "tensors-gap", changed(data_offsets=[132, 144]) + b"1234", "gap"
    yield "data-missing", safetensors(header), "truncated"
    yield "data-half", whole[: -len(data) // 2], "truncated"
    yield "data-one-short", whole[:-1], "truncated"
    yield "data-too-long", whole + b"x", "belong to no tensor"


def _indexes(base: Directory) -> Iterator[Entry]:
    """Yield shards with wrong indexes."""
    shard = {"a.safetensors": safetensors(tiny_header(), tiny_data())}
    sharded = Directory({**base.files, **shard})

    def index(content: object) -> Directory:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        return sharded.set("model.safetensors.index.json", raw)

    def mapped(**places: object) -> Directory:
        return index({"weight_map": {"x.weight": "a.safetensors", "y.weight": "a.safetensors", **places}})

    yield "index-text", index(b"hello"), "not JSON"
    yield "index-list", index([]), "holds a list"
    yield "index-no-map", index({"metadata": {}}), "no `weight_map`"
    yield "index-empty-map", index({"weight_map": {}}), "no `weight_map`"
    yield "index-map-list", index({"weight_map": ["a.safetensors"]}), "no `weight_map`"
    yield "index-shard-missing", mapped(z="b.safetensors"), "does not exist"
    yield "index-tensor-missing", mapped(z="a.safetensors"), "but it does not"
    yield "index-traversal", mapped(z="../a.safetensors"), "not a plain file name"
    yield "index-absolute", mapped(z="/etc/passwd"), "not a plain file name"
    yield "index-dots", mapped(z=".."), "not a plain file name"
    yield "index-null-byte", mapped(z="a\0b"), "not a plain file name"
    yield "index-number", mapped(z=7), "not a plain file name"
    yield "index-newline", mapped(z="no\nsuch.safetensors"), "does not exist"
    numbered = {f"m-0000{i}-of-00003.safetensors": shard["a.safetensors"] for i in (1, 3)}
    part = {"weight_map": dict.fromkeys(tiny_header(), "m-00001-of-00003.safetensors")}
    yield (
        "index-incomplete",
        Directory({**index(part).files, **numbered}),
        "does not name `m-00003-of-00003.safetensors`",
    )
    both = Directory({**mapped().files, "b.safetensors": shard["a.safetensors"]})
    twice = {"weight_map": {"x.weight": "a.safetensors", "y.weight": "b.safetensors"}}
    yield "index-two-owners", both.set("model.safetensors.index.json", json.dumps(twice).encode()), "in two shards"


def _tokenizers() -> Iterator[Entry]:
    """Yield directories with sound weights and a malformed tokenizer."""
    good = tiny_directory()
    bare = good.set("tokenizer.json", None)
    yield "tokenizer-missing", bare, "no `tokenizer.json`"
    yield "tokenizer-model-only", bare.set("tokenizer.model", b"\n\x0e"), "no `tokenizer.json`"
    yield "tokenizer-text", good.set("tokenizer.json", b"hello"), "not JSON"
    yield "tokenizer-empty-object", good.set("tokenizer.json", b"{}"), "it has no model"
    model = {**TOKENIZER["model"], "merges": ["a z"]}  # type: ignore[dict-item]
    yield (
        "tokenizer-merge",
        good.set("tokenizer.json", json.dumps({**TOKENIZER, "model": model}).encode()),
        "not a working",
    )
    yield "tokenizer-config-list", good.set("tokenizer_config.json", b"[]"), "holds a list"
    yield "tokenizer-template-binary", good.set("chat_template.jinja", b"\xff\xfe"), "not UTF-8"
    yield "generation-config-text", good.set("generation_config.json", b"x"), "not JSON"
    pieces = Directory({**bare.files, "config.json": b'{"model_type": "gpt2"}'})

    def older(vocab: object, merges: bytes = b"#version: 0.2\na b\n") -> Directory:
        return pieces.set("vocab.json", json.dumps(vocab).encode()).set("merges.txt", merges)

    vocab = {"a": 0, "b": 1, "ab": 2}
    yield "vocab-text-ids", older({**vocab, "c": "3"}), "does not map tokens to numbers"
    yield "vocab-negative", older({**vocab, "c": -1}), "does not map tokens to numbers"
    yield "vocab-shared-id", older({**vocab, "c": 2}), "one number to two tokens"
    yield "merges-unknown", older(vocab, b"a z\n"), "does not join two tokens"
    yield "merges-one-word", older(vocab, b"ab\n"), "does not join two tokens"
    yield "merges-binary", older(vocab, b"\xff \xfe\n"), "not UTF-8"
    yield (
        "vocab-unknown-class",
        older(vocab).set("tokenizer_config.json", b'{"tokenizer_class": "BlenderbotTokenizer"}'),
        "cannot be made",
    )
    clash = b'{"added_tokens_decoder": {"2": {"content": "<s>", "special": true}}}'
    yield "added-token-clash", older(vocab).set("tokenizer_config.json", clash), "number of another"
    unnumbered = clash.replace(b'"2"', b'"x"')
    yield "added-token-no-number", older(vocab).set("tokenizer_config.json", unnumbered), "not a token"


class _Evil:
    """A pickle that runs a command when it is loaded."""

    def __reduce__(self) -> tuple:
        return os.system, ("echo owned >&2",)


def _bins() -> Iterator[Entry]:
    """Yield PyTorch files; torch writes the sound ones."""
    base = tiny_directory().set("model.safetensors", None)
    yield "bin-garbage", base.set("pytorch_model.bin", b"hello"), "not a PyTorch weights file"
    yield "bin-empty", base.set("pytorch_model.bin", b""), "not a PyTorch weights file"
    yield "bin-evil", base.set("pytorch_model.bin", pickle.dumps({"x": _Evil()})), "more than tensors"
    yield "bin-zip", base.set("pytorch_model.bin", b"PK\x05\x06" + b"\0" * 18), "holds more than tensors, or is damaged"
    if importlib.util.find_spec("torch") is None:
        return
    for name, make, reason in (
        ("list", lambda torch: [torch.ones(2)], "not a dict of tensors"),
        ("numbers", lambda torch: {"x": 1}, "not a named tensor"),
        ("nested", lambda torch: {"model": {"x": torch.ones(2)}}, "not a named tensor"),
        ("number-names", lambda torch: {1: torch.ones(2)}, "not a named tensor"),
        ("sparse", lambda torch: {"x": torch.eye(4).to_sparse()}, "is stored as"),
        ("expanded", lambda torch: {"x": torch.ones(1).expand(1 << 20, 1 << 10)}, "repeats its memory"),
        ("complex", lambda torch: {"x": torch.ones(2, dtype=torch.complex64)}, "is stored as"),
    ):
        yield f"bin-{name}", partial(_saved, base, make, 0), reason
    yield "bin-unset-tensor", partial(_saved, base, lambda torch: {"x": _Unset(torch)}, 0), "by 'torch.Tensor'"
    yield (
        "bin-unset-storage",
        partial(_with, directory=base, name="pytorch_model.bin", make=_unset_storage),
        "storage `",
    )
    yield "bin-truncated", partial(_saved, base, lambda torch: {"x": torch.ones(4)}, 100), "not a PyTorch weights file"


class _Unset:
    """Unpickled as a tensor whose values nobody sets."""

    def __init__(self, torch: ModuleType) -> None:
        self.torch = torch

    def __reduce__(self) -> tuple[object, ...]:
        return self.torch.Tensor, (3, 4)


def _unset_storage(file: Path) -> None:
    """Write a file as PyTorch did before 1.6, whose list of storages lacks the one that its tensor uses."""
    import torch

    tensors = {"x": torch.ones(4), "y": torch.zeros(4)}
    torch.save(tensors, file, _use_new_zipfile_serialization=False)
    data = file.read_bytes()
    keys = sorted(str(tensor.untyped_storage()._cdata) for tensor in tensors.values())
    listed = data.index(pickle.dumps(keys, 2)[:3], data.rindex(b"OrderedDict" if b"OrderedDict" in data else b"cpu"))
    file.write_bytes(data[:listed] + pickle.dumps(keys[:1], 2) + data[-48:-24])  # a size and 4 numbers for each


def _saved(base: Directory, make: Callable[[ModuleType], object], cut: int, path: Path) -> Path:
    """Write `base` with the object of `make` in a `.bin` file, without its last `cut` bytes."""
    import torch

    def write(file: Path) -> None:
        torch.save(make(torch), file)
        file.write_bytes(file.read_bytes()[: -cut or None])

    return _with(path, base, "pytorch_model.bin", write)


def _ggufs() -> Iterator[Entry]:
    """Yield GGUF files with faults in the preamble, metadata, descriptions, data and tokenizer."""
    good = tiny_gguf()
    head, table, data = good.parts()
    yield "gguf-magic-only", b"GGUF", "truncated"
    yield "gguf-magic-old", replace(good, magic=b"GGML").bytes(), "neither a directory nor a GGUF"
    yield "gguf-version-0", replace(good, version=0).bytes(), "version `0`"
    yield "gguf-version-1", replace(good, version=1).bytes(), "version `1`"
    yield "gguf-version-99", replace(good, version=99).bytes(), "version `99`"
    yield "gguf-big-endian", replace(good, version=3 << 24).bytes(), "big-endian version `3`"
    yield "gguf-tensor-count-huge", replace(good, tensor_count=(1 << 64) - 1).bytes(), "number of tensors"
    yield "gguf-tensor-count-more", replace(good, tensor_count=len(good.tensors) + 1).bytes(), ".gguf`"
    yield "gguf-value-count-huge", replace(good, value_count=1 << 60).bytes(), "number of metadata values"
    yield "gguf-value-count-more", replace(good, value_count=len(good.values) + 1).bytes(), "claims"
    yield "gguf-value-count-less", replace(good, value_count=len(good.values) - 1).bytes(), "dimensions"
    for share in (10, 30, 60, 90, 99):
        yield (
            f"gguf-cut-in-metadata-{share}",
            head[: len(head) * share // 100],
            "can hold" if share < 40 else "truncated",
        )
    for share in (0, 20, 50, 80):
        yield f"gguf-cut-in-table-{share}", head + table[: len(table) * share // 100], "truncated"
    yield "gguf-cut-before-data", head + table, "the file has only"
    yield "gguf-cut-in-data", head + table + data[: len(data) // 2], "the file has only"
    yield "gguf-cut-at-end", head + table + data[:-4], "the file has only"
    for name, file, reason in [*_gguf_values(good), *_gguf_tensors(good), *_gguf_models(good), *_gguf_tokenizers(good)]:
        yield f"gguf-{name}", file.bytes(), reason


def _gguf_values(good: Gguf) -> Iterator[tuple[str, Gguf, str]]:
    yield "key-huge", replace(good, values=((b"", b""), *good.values), value_count=1 << 10), "value type"
    long_text = struct.pack("<IQ", STRING, 1 << 63)
    yield "string-huge", good.set("general.name", long_text), "claims"
    yield "string-beyond", good.set("general.name", struct.pack("<IQ", STRING, 1 << 20)), "truncated"
    yield "string-binary", good.set("general.name", struct.pack("<I", STRING) + text(b"\xff\xfe")), "not UTF-8"
    yield "key-twice", replace(good, values=(*good.values, good.values[0])), "twice"
    yield "key-binary", replace(good, values=((b"\xff", typed(U32, 1)), *good.values)), "not UTF-8"
    yield "type-unknown", good.set("x", struct.pack("<II", 99, 0)), "unknown value type `99`"
    yield "array-of-arrays", good.set("x", struct.pack("<IIQ", ARRAY, ARRAY, 1) + array(U8, [1])), "array of arrays"
    yield "array-bomb", good.set("x", struct.pack("<IIQ", ARRAY, ARRAY, 1) * 10_000), "array of arrays"
    yield "array-type-unknown", good.set("x", struct.pack("<IIQ", ARRAY, 77, 1)), "array of unknown type `77`"
    yield "array-numbers-huge", good.set("x", array(U64, [], 1 << 61)), "claims a length"
    yield "array-bytes-huge", good.set("x", array(U8, [], 1 << 40)), "claims a length"
    yield "array-strings-huge", good.set("x", array(STRING, [], 1 << 50)), "claims a length"
    yield "array-strings-short", good.set("x", array(STRING, ["a"], 3)), "gguf"
    yield "alignment-zero", good.set("general.alignment", typed(U32, 0)), "power of two"
    yield "alignment-odd", good.set("general.alignment", typed(U32, 24)), "power of two"
    yield "alignment-huge", good.set("general.alignment", typed(U32, 1 << 31)), "power of two"
    yield "alignment-text", good.set("general.alignment", typed(STRING, "32")), "power of two"


def _gguf_tensors(good: Gguf) -> Iterator[tuple[str, Gguf, str]]:
    name = "blk.0.attn_q.weight"
    yield "tensor-type-unknown", good.tensor(name, kind=999), "unknown type `999`"
    yield "tensor-type-removed", good.tensor(name, kind=4), "unknown type `4`"
    yield "tensor-type-integer", good.tensor(name, kind=26), "stored as `I32`"
    yield "tensor-type-q8_k", good.tensor(name, kind=15), "stored as `Q8_K`"
    yield "tensor-unaligned", good.tensor(name, offset=16), "not a multiple of 32"
    yield "tensor-offset-beyond", good.tensor(name, offset=1 << 40), "the file has only"
    yield "tensor-offset-wraps", good.tensor(name, offset=(1 << 64) - 32), "the file has only"
    yield "tensor-overlap", good.tensor(name, offset=0), "overlaps another"
    yield "tensor-twice", replace(good, tensors=(*good.tensors, good.tensors[0])), "described twice"
    yield "tensor-rank-0", good.tensor(name, dims=()), "`0` dimensions"
    yield "tensor-rank-5", good.tensor(name, dims=(32, 32, 1, 1, 1)), "`5` dimensions"
    yield "tensor-rank-huge", good.tensor(name, rank=(1 << 32) - 1), "dimensions"
    yield "tensor-dims-zero", good.tensor(name, dims=(32, 0)), "cannot store"
    yield "tensor-dims-huge", good.tensor(name, dims=(1 << 63, 1 << 63)), "the file has only"
    yield "tensor-dims-larger", good.tensor(name, dims=(32, 1 << 20)), "the file has only"
    yield "tensor-row-not-blocks", good.tensor("output_norm.weight", dims=(31,), kind=8), "cannot store"
    yield "tensor-name-binary", good.tensor(name, name=b"\xff\xfe"), "not UTF-8"
    yield "tensor-name-unknown", good.tensor(name, name="blk.0.attn_x.weight"), "not one that this architecture"
    yield "tensor-name-newline", good.tensor(name, name="blk.0\n.weight"), "not one that this architecture"
    yield "tensor-layer-beyond", good.tensor(name, name="blk.7.attn_q.weight"), "not one that this architecture"
    yield "tensor-rows-not-heads", good.tensor(name, dims=(32, 31)), "do not divide"
    extra = Tensor("blk.0.ffn_gate_inp.weight", (32, 2), b"\0" * 256)
    yield "tensor-of-experts", replace(good, tensors=(*good.tensors, extra)), "not one that this architecture"


def _gguf_models(good: Gguf) -> Iterator[tuple[str, Gguf, str]]:
    yield "architecture-missing", good.set("general.architecture", None), "no `general.architecture`"
    yield "architecture-number", good.set("general.architecture", typed(U32, 1)), "no `general.architecture`"
    yield "architecture-unknown", good.set("general.architecture", typed(STRING, "mamba")), "`mamba` is not supported"
    yield "architecture-newline", good.set("general.architecture", typed(STRING, "ma\nmba")), "is not supported"
    yield "type-adapter", good.set("general.type", typed(STRING, "adapter")), "`adapter`, not a model"
    yield "split", good.set("split.count", typed(U32, 3)), "one part of a split"
    yield "embedding-missing", replace(good, tensors=good.tensors[1:]), "no tensor `token_embd.weight`"
    yield "layers-missing", good.set("llama.block_count", None), "lacks `llama.block_count`"
    yield "layers-zero", good.set("llama.block_count", typed(U32, 0)), "above zero"
    yield "layers-text", good.set("llama.block_count", typed(STRING, "1")), "above zero"
    yield "heads-zero", good.set("llama.attention.head_count", typed(U32, 0)), "above zero"
    yield "heads-per-layer", good.set("llama.attention.head_count", array(U32, [2, 4])), "differs from layer to layer"
    yield "heads-strings", good.set("llama.attention.head_count", array(STRING, ["2"])), "above zero"
    yield "epsilon-nan", good.set("llama.attention.layer_norm_rms_epsilon", typed(F32, float("nan"))), "finite"
    yield "experts", good.set("llama.expert_count", typed(U32, 8)), "only `0` is supported"
    yield "value-length", good.set("llama.attention.value_length", typed(U32, 8)), "only `16` is supported"
    yield "not-causal", good.set("llama.attention.causal", typed(BOOL, False)), "only `True` is supported"
    yield "key-unknown", good.set("llama.logit_scale", typed(F32, 2.0)), "`llama.logit_scale`, which is not supported"
    yield (
        "rope-scaling-unknown",
        good.set("llama.rope.scaling.type", typed(STRING, "magic")),
        "`magic` is not supported",
    )
    short = Tensor("rope_freqs.weight", (3,), struct.pack("<3f", 1, 1, 1))
    yield "rope-factors-short", replace(good, tensors=(*good.tensors, short)), "instead of"
    zero = Tensor("rope_freqs.weight", (8,), b"\0" * 32)
    yield "rope-factors-zero", replace(good, tensors=(*good.tensors, zero)), "not above zero"


def _gguf_tokenizers(good: Gguf) -> Iterator[tuple[str, Gguf, str]]:
    key = "tokenizer.ggml."
    yield "tokenizer-none", good.set(key + "model", None), "no tokenizer"
    yield "tokenizer-kind", good.set(key + "model", typed(STRING, "bert")), "of kind `bert`"
    yield "tokenizer-pre-missing", good.set(key + "pre", None), "how its tokenizer cuts words"
    yield "tokenizer-pre-unknown", good.set(key + "pre", typed(STRING, "magic")), "`magic` is not supported"
    yield "tokenizer-pre-number", good.set(key + "pre", typed(U32, 1)), "`1` is not supported"
    yield "tokens-missing", good.set(key + "tokens", None), "no list of strings"
    yield "tokens-numbers", good.set(key + "tokens", array(U32, [1, 2])), "no list of strings"
    yield "tokens-empty", good.set(key + "tokens", array(STRING, [])), "no list of strings"
    yield "tokens-twice", good.set(key + "tokens", array(STRING, [*TOKENS[:-1], "a"])), "`a` twice"
    yield "tokens-too-many", good.set(key + "tokens", array(STRING, [*TOKENS, "z"])), "embedding of 8 rows"
    yield "token-types-fewer", good.set(key + "token_type", array(I32, [1, 1])), "for each of the 8 tokens"
    yield "token-types-strings", good.set(key + "token_type", array(STRING, TOKENS)), "for each of the 8 tokens"
    yield "scores-more", good.set(key + "scores", array(F32, [0.0] * 9)), "for each of the 8 tokens"
    yield "scores-nan", good.set(key + "scores", array(F32, [float("nan")] * 8)), "for each of the 8 tokens"
    yield "merges-missing", good.set(key + "merges", None), "no list of strings"
    yield "merges-unknown", good.set(key + "merges", array(STRING, ["a z"])), "does not join"
    yield "merges-unmade", good.set(key + "merges", array(STRING, ["b a"])), "does not join"
    yield "merges-three", good.set(key + "merges", array(STRING, ["a b c"])), "does not join"
    yield "bos-beyond", good.set(key + "bos_token_id", typed(U32, 8)), "not a token"
    yield "eos-text", good.set(key + "eos_token_id", typed(STRING, "x")), "not a token"
    yield "add-bos-number", good.set(key + "add_bos_token", typed(U32, 1)), "not true or false"
    yield "template-number", good.set("tokenizer.chat_template", typed(U32, 1)), "not text"
    pieces = good.set(key + "model", typed(STRING, "llama")).set(key + "scores", array(F32, [0.0] * 8))
    long = pieces.set(key + "tokens", array(STRING, [*TOKENS[:-1], "x" * 1_000_000]))
    yield "sentencepiece-long-piece", long, "has 1000000 characters"
    yield "sentencepiece-no-scores", good.set(key + "model", typed(STRING, "llama")), "no `tokenizer.ggml.scores`"
