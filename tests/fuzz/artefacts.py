"""Fuzz the readers of artefacts: the manifest, the tensor cache and the chat config; and chat templates, tokenizers."""

from __future__ import annotations

import functools
import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from fuzz.checkpoints import changed
from fuzz.mutate import changed_bytes, changed_json
from fuzz.target import Files, Genome, Target, data_of, expect

from argosy.dist.artefact import open_artefact
from argosy.dist.build_directory import open_build_directory
from argosy.dist.chat_config import CHAT_CONFIG_NAME, ChatConfig, read_chat_config
from argosy.dist.manifest import MANIFEST_NAME, LibraryTarget, read_manifest
from argosy.dist.tensor_cache import CACHE_NAME, read_tensor_cache
from argosy.runtime_bindings.chat.template import ChatTemplate
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.support.errors import ArgosyError

TARGET = LibraryTarget("cpu", "x86_64-pc-linux-gnu", "generic", ("sse2",))


@functools.cache
def _files() -> Files:
    """Build an artefact around an empty library, and return its files."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "tiny-q4f16_1"
        with open_build_directory(directory, model="tiny", quantization="q4f16_1", checkpoint_digest="d") as build:
            with build.weights_writer() as writer:
                writer.add("model.norm.weight", np.ones(8, np.float32))
                writer.add("lm_head.weight", np.arange(12, dtype=np.uint32).reshape(3, 4))
                build.publish_weights(writer, key="w", rounding="full")
            config = ChatConfig(
                "llama", "q4f16_1", {"vocab_size": 3}, vocab_size=3, context_window_size=64, prefill_chunk_size=8,
                eos_token_ids=(1, 2), bos_token_id=0, tokenizer_files=("tokenizer.json",), conv_template={"name": "LM"},
            )  # fmt: skip
            build.publish_config(config, {"tokenizer.json": b"{}"}, key="c")
            library = build.library_path("cpu")
            library.write_bytes(b"\x7fELF")
            layout = read_tensor_cache(directory).layout()
            build.publish_library(library, TARGET, key="l", weights_layout=layout, spec_digest="s")
        return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def _seed(name: str) -> Callable[[], list[Genome]]:
    return lambda: [_files()[name]]


def _with(name: str) -> Callable[[Genome], Files]:
    return lambda genome: {**_files(), name: data_of(genome)}


def _use_manifest(path: Path) -> None:
    manifest = read_manifest(path)
    stored = json.loads((path / MANIFEST_NAME).read_bytes())
    expect(manifest.model == stored["model"] and set(manifest.files) == set(stored["files"]))
    artefact = open_artefact(path)
    library = artefact.library()
    expect(library.file in manifest.files)
    with artefact.verified_library(library) as verified:
        expect(verified.read_bytes() == _files()[library.file])


def _use_tensor_cache(path: Path) -> None:
    cache = read_tensor_cache(path)
    stored = {
        tensor["name"]: (shard["dataPath"], tensor)
        for shard in json.loads((path / CACHE_NAME).read_bytes())["records"]
        for tensor in shard["records"]
    }
    tensors = cache.load(verify=False)
    expect(set(tensors) == set(stored))
    for name, values in tensors.items():
        file, record = stored[name]
        expect(list(values.shape) == record["shape"])
        if record["format"] == "raw" or record["dtype"] != "float32":
            data = (path / file).read_bytes()[record["byteOffset"] :][: record["nbytes"]]
            expect(values.tobytes() == data and str(values.dtype) == record["dtype"], name)
    cache.layout()
    cache.load()


def _use_chat_config(path: Path) -> None:
    config = read_chat_config(path)
    stored = json.loads((path / CHAT_CONFIG_NAME).read_bytes())
    written = config.to_json()
    for key in ("vocab_size", "context_window_size", "model_config", "temperature", "top_k"):
        expect(written.get(key) == stored.get(key, written.get(key)) or stored.get(key) is None, key)
    json.dumps(written, allow_nan=False)


MESSAGES = [{"role": role, "content": text} for role, text in (("system", "a"), ("user", "b"), ("assistant", "c"))]
TEMPLATES = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'system' %}{% set ns.n = ns.n + 1 %}"
    "{{ ns.n ~ '. ' ~ m.content.split('x')[-1] }}{% endfor %}{{ messages | length * 'a' }}",
    "{%- macro f(x, n=3) -%}{{ (x * n).upper().strip().replace('A', 'b') | replace('b', 'cc') }}{%- endmacro -%}"
    "{% for i in range(3) %}{{ f(messages[i].content, i) }}{% endfor %}"
    "{{ messages | map(attribute='role') | join(',') }}",
    "{% if tools is defined and tools %}{{ tools | tojson(indent=2) }}{% endif %}{{ '%s-%d' | format('a', 7) }}"
    "{{ 'a{}'.format(1) }}{{ [3, 1, 2] | sort | list | string }}{{ raise_exception('x') if messages | length > 5 }}",
)
WORDS = (
    "10**9", "'a' * 99999999", "range(10**9)", "| tojson", "| join('a' * 1000)", "(2 ** 10 ** 9)", ".__class__", "loop",
    "{% for i in range(99999) %}", "{% endfor %}", "| replace('', 'aaaa')", "~", "| indent(10**6)", "'%9999999d' % 1",
    "| batch(1)", "self", "cycler(1, 2)", "lipsum(9)", "{{ ", " }}", "| center(10**8)", ".encode()", "// 3", "not in",
)  # fmt: skip


def _changed_template(genome: Genome, rng: random.Random) -> Genome:
    text = data_of(genome).decode("utf-8", "replace")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(text) + 1)
        other = rng.choice(TEMPLATES)
        start = rng.randrange(len(other))
        piece = rng.choice((rng.choice(WORDS), other[start : start + rng.randrange(60)]))
        text = text[:at] + piece + text[at + rng.choice((0, 0, 1, 5, len(piece))) :]
    return changed_bytes(text.encode(), rng, len(text)) if rng.random() < 0.1 else text.encode()


def _use_template(path: Path) -> None:
    source = (path / "chat_template.jinja").read_text("utf-8", "replace")
    template = ChatTemplate(source, {"bos_token": "<s>"})
    expect(template.render(MESSAGES) == ChatTemplate(source, {"bos_token": "<s>"}).render(MESSAGES))


@functools.cache
def _tokenizers() -> list[Genome]:
    from zoo.file_bytes import TOKENIZER

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    split = {"type": "Split", "pattern": {"Regex": r"\p{L}+|\s+"}, "behavior": "Isolated", "invert": False}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "_"}
    richer = {
        **TOKENIZER, "truncation": None, "padding": None, "decoder": byte_level,
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, replace]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, {**byte_level, "use_regex": False}]},
        "added_tokens": [{"id": 3, "content": "<s>", "single_word": False, "lstrip": False, "rstrip": False,
                          "normalized": False, "special": True}],
    }  # fmt: skip
    return [json.dumps(document).encode() for document in (TOKENIZER, richer)]


def _use_tokenizer(path: Path) -> None:
    from argosy.model_defs.checkpoint import open_checkpoint

    files = open_checkpoint(path).tokenizer_files()
    (path / "checked.json").write_bytes(files["tokenizer.json"])
    tokenizer = Tokenizer.load(path / "checked.json")
    for text in ("ab ba", "<s>a", "\U0001f600 x"):
        ids = tokenizer.encode(text)
        expect(ids == tokenizer.encode(text) and isinstance(tokenizer.decode(ids), str))


def _tokenizer_files(genome: Genome) -> Files:
    from zoo.file_bytes import tiny_directory

    return {**tiny_directory().files, "tokenizer.json": data_of(genome)}


def _use_name(path: Path) -> None:
    """Resolve text that people type for a model; ids of the hub are left to the hub."""
    from argosy.dist.catalogue import resolve_model

    name = (path / "name").read_text("utf-8", "surrogateescape")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        raise ArgosyError("this may be an id of the hub")
    resolve_model(name)


ARTEFACTS = (
    Target("manifest", 2, _seed(MANIFEST_NAME), changed, _with(MANIFEST_NAME), _use_manifest),
    Target("tensor-cache", 2, _seed(CACHE_NAME), changed, _with(CACHE_NAME), _use_tensor_cache),
    Target("chat-config", 1, _seed(CHAT_CONFIG_NAME), changed, _with(CHAT_CONFIG_NAME), _use_chat_config),
    Target("template", 1, lambda: [text.encode() for text in TEMPLATES], _changed_template,
           lambda genome: {"chat_template.jinja": data_of(genome)}, _use_template),
    Target("tokenizer", 1, _tokenizers, lambda genome, rng: changed_json(data_of(genome), rng), _tokenizer_files,
           _use_tokenizer),
    Target("name", 0.2, lambda: [b"smollm2-135m", b"./tiny", b"a/b/c", b"model.gguf", b"~"],
           lambda genome, rng: changed_bytes(data_of(genome), rng), lambda genome: {"name": data_of(genome)},
           _use_name),
)  # fmt: skip
