"""Make a tiny artefact for a browser, whose library is an empty wasm module of eight bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models

from argosy.compiler.targets.table import BROWSER_TARGET
from argosy.dist.build_directory import BuildDirectory, open_build_directory
from argosy.dist.chat_config import make_chat_config
from argosy.dist.manifest import LibraryTarget
from argosy.support.files import write_bytes_atomic

NAME = "tiny-q4f32_1"
WASM = f"{NAME}-webgpu.wasm"
FOR_BROWSERS = (BROWSER_TARGET.name, BROWSER_TARGET.schemes or ())
EMPTY_MODULE = b"\0asm\1\0\0\0"
WEBGPU = LibraryTarget("webgpu", "wasm32-unknown-unknown-wasm", "", (), device="webgpu")
ARM = LibraryTarget("arm64", "s390x-ibm-linux", "z15", ())  # no machine that runs tests
_BYTES = Tokenizer(models.BPE({"a": 0}, []))
_BYTES.decoder = decoders.ByteLevel()
TOKENIZER = {"tokenizer.json": _BYTES.to_str().encode(), "tokenizer_config.json": b"{}"}
BUILD = "argosy build --model tiny --target webgpu --quantization q4f32_1"


def save_artefact(directory: Path, *targets: LibraryTarget, weights: int = 50_000) -> Path:
    """Make an artefact with `weights` numbers, and with a library for each of `targets`."""
    with open_build_directory(directory, model="tiny", quantization="q4f32_1", checkpoint_digest="d") as build:
        with build.weights_writer() as writer:
            writer.add("a.weight", np.arange(weights, dtype=np.float32))
            build.publish_weights(writer, key="w", rounding="full")
        config = make_chat_config(
            model_type="llama", quantization="q4f32_1", model_config={"hidden_size": 8, "eos_token_id": 2},
            vocab_size=32, context_window_size=64, prefill_chunk_size=32, max_batch_size=4, tokenizer_files=TOKENIZER,
        )  # fmt: skip
        build.publish_config(config, TOKENIZER, key="c")
        for target in targets:
            add_library(build, target)
    return directory


def add_library(build: BuildDirectory, target: LibraryTarget, content: bytes = EMPTY_MODULE) -> None:
    """Add a library for `target` with this content."""
    assert build.manifest.weights is not None
    path = build.library_path(target.name, ".wasm" if target.device == "webgpu" else ".so")
    write_bytes_atomic(path, content)
    layout = build.manifest.weights.layout
    build.publish_library(path, target, key="l", weights_layout=layout, spec_digest="s")


def save_page(static: Path) -> Path:
    """Make a page of three files."""
    (static / "assets").mkdir(parents=True)
    (static / "index.html").write_text("<!doctype html><title>chat</title>")
    (static / "service-worker.js").write_text("self.x = 1;")
    (static / "assets" / "main-0123abcd.js").write_text("export {};")
    (static / ".sources").write_text("0")
    return static
