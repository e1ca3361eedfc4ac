"""Inputs that would take much memory or time if their readers were not bounded, each made in code."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping

from zoo.file_bytes import F32, I32, STRING, U32, Gguf, Tensor, array, safetensors, tiny_directory, tiny_gguf, typed

Bomb = Callable[[], Mapping[str, bytes]]

EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def documents() -> Iterator[tuple[str, bytes]]:
    """Yield JSON documents that are small beside what a careless parser makes of them."""
    yield "keys", b"{" + b", ".join(b'"%d": 0' % i for i in range(20_000)) + b', "19999": 0}'
    yield "objects", b'{"x": [' + b"{}," * 1_200_000 + b"0]}"
    yield "members", b'{"x": [' + b'{"a":1},' * 400_000 + b"0]}"
    yield "lists", b'{"x": [' + b"[]," * 1_200_000 + b"0]}"
    yield "texts", b'{"x": [' + b'"",' * 1_500_000 + b"0]}"
    yield "depth", b'{"x": ' + b"[" * 400_000
    yield "wide", b'{"x": "' + b"a" * 40_000_000 + "\U0001f600".encode() + b'"}'
    yield "digits", b'{"x": [' + b"9" * 1_000_000 + b"]}"
    yield "escapes", b'{"x": "' + b"\\ud83d\\ude00" * 100_000 + b'\\ud83d"}'
    yield "spaces", b'{"x": ' + b" " * 20_000_000


def _gguf(values: Mapping[str, bytes], tensors: tuple[Tensor, ...] | None = None) -> Mapping[str, bytes]:
    file = tiny_gguf()
    for key, value in values.items():
        file = file.set(key, value)
    return {"x.gguf": (file if tensors is None else Gguf(file.values, tensors)).bytes()}


def _vocabulary(tokens: list[str], kind: str = "llama", **more: bytes) -> Mapping[str, bytes]:
    """Return a model whose embedding has a row for each token."""
    front = "tokenizer.ggml."
    values = {
        f"{front}model": typed(STRING, kind),
        f"{front}tokens": array(STRING, tokens),
        f"{front}scores": array(F32, [0.0] * len(tokens)),
        f"{front}token_type": array(I32, [1] * len(tokens)),
        f"{front}bos_token_id": typed(U32, 0),
        f"{front}eos_token_id": typed(U32, 0),
        **{front + key: value for key, value in more.items()},
    }
    rest = tuple(tensor for tensor in tiny_gguf().tensors if tensor.name != "token_embd.weight")
    return _gguf(values, (Tensor("token_embd.weight", (1, len(tokens)), bytes(4 * len(tokens))), *rest))


def _letters(lengths: range, letters: str = "ab") -> list[str]:
    return ["".join(word) for length in lengths for word in itertools.product(letters, repeat=length)]


def _torch(pickled: bytes) -> Mapping[str, bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in (("data.pkl", pickled), ("version", b"3\n"), ("byteorder", b"little")):
            archive.writestr(f"archive/{name}", data)
    return {**tiny_directory().set("model.safetensors", None).files, "pytorch_model.bin": file.getvalue()}


def bombs() -> dict[str, Bomb]:
    """Return the files of each bomb, by name."""
    base = tiny_directory().files
    names = ("config.json", "tokenizer_config.json", "generation_config.json", "tokenizer.json", "added_tokens.json")
    out: dict[str, Bomb] = {}
    for name, (label, data) in itertools.product(names[:1], documents()):
        out[f"{name}: {label}"] = lambda name=name, data=data: {**base, name: data}  # type: ignore[misc]
    for name, (label, data) in itertools.product(names[1:], itertools.islice(documents(), 3)):
        out[f"{name}: {label}"] = lambda name=name, data=data: {**base, name: data}  # type: ignore[misc]
    for label, data in documents():
        out[f"header of safetensors: {label}"] = lambda data=data: {**base, "model.safetensors": safetensors(data)}  # type: ignore[misc]
    tensors = {f"t{i}": EMPTY for i in range(200_000)}
    out["empty tensors"] = lambda: {**base, "model.safetensors": safetensors(tensors)}
    places = json.dumps({"weight_map": {f"t{i}": "a.safetensors" for i in range(200_000)}}).encode()
    rest = {name: data for name, data in base.items() if name != "model.safetensors"}
    out["index"] = lambda: {**rest, "model.safetensors.index.json": places}
    out["overlapping pieces"] = lambda: _vocabulary(["a" * i for i in range(1, 1025)])
    out["all short pieces"] = lambda: _vocabulary(_letters(range(1, 16)))
    out["long pieces"] = lambda: _vocabulary([f"{i:07}" + "x" * 1000 for i in range(5_000)])
    out["tokens"] = lambda: _vocabulary([f"{i:x}" for i in range(700_000)])
    out["special tokens"] = lambda: _vocabulary(
        [f"{i:x}" for i in range(200_000)], "gpt2", token_type=array(I32, [3] * 200_000), merges=array(STRING, ["1 0"])
    )
    out["merges"] = lambda: _gguf({"tokenizer.ggml.merges": array(STRING, ["a b"] * 100_000)})
    texts = struct.pack("<IIQ", 9, STRING, 700_000) + bytes(8 * 700_000)
    out["texts of metadata"] = lambda: _gguf({f"x.{i}": texts for i in range(2)})
    numbers = struct.pack("<IIQ", 9, 10, 4_000_000) + bytes(32_000_000)
    out["numbers of metadata"] = lambda: _gguf({"tokenizer.ggml.token_type": numbers})
    out["keys of metadata"] = lambda: _gguf(
        {f"x.{i}": typed(U32, i) for i in range(3000)} | {"split.count": typed(U32, 2)}
    )
    out["descriptions"] = lambda: _gguf({}, tuple(Tensor(f"t{i}", (1,), b"") for i in range(30_000)))
    norm = Tensor("blk.0.attn_q_norm.weight", (1, 2_000_000), bytes(8_000_000))
    values = {key.replace("llama", "stablelm"): value for key, value in tiny_gguf().values if isinstance(key, str)}
    values |= {
        "general.architecture": typed(STRING, "stablelm"),
        "stablelm.attention.layer_norm_epsilon": typed(F32, 1e-5),
    }
    out["heads"] = lambda: {"x.gguf": Gguf(tuple(values.items()), (*tiny_gguf().tensors, norm)).bytes()}
    out["memo of a pickle"] = lambda: _torch(b"\x80\x02}r\xff\xff\xff\x7f.")
    out["bytes of a pickle"] = lambda: _torch(b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".")
    out["array of a pickle"] = lambda: _torch(b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x02\x85R.")
    out["entries of a pickle"] = lambda: _torch(pickle.dumps({str(i): i for i in range(150_000)}, 2))
    out["depth of a pickle"] = lambda: _torch(b"\x80\x02" + b"(" * 1_200_000 + b"t" * 1_200_000 + b".")
    return out
