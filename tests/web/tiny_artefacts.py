"""Build artefacts of a 2-layer llama that answers in endless letters."""

from __future__ import annotations

import dataclasses
import json
import shutil
import string
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from tiny_checkpoint import save_checkpoint

from argosy.build import BuildRequest, build
from argosy.compiler.targets.webgpu.entry import WEBGPU_F32
from argosy.dist.manifest import read_manifest, write_manifest
from argosy.support.progress import SilentProgress

Artefact = Callable[[str], Path]  # scheme -> directory of the tiny model in it
CONTEXT = 1024
SCALE = 8.0  # of the weights, so that the best token is well ahead of the second (test_golden.py)
LETTERS = string.ascii_letters + "Ġ"  # the byte-level tokenizer's space


def save_letters_checkpoint(directory: Path) -> Path:
    """Save the tiny checkpoint with a longer context, and an output head that is zero except for letters and the space.

    All other tokens have the logit 0, so that greedy text is plain words, which Markdown does not change.
    """
    save_checkpoint(directory, scale=SCALE)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    kept = [tokenizer.token_to_id(letter) for letter in LETTERS]
    tensors = load_file(directory / "model.safetensors")
    head = np.zeros_like(tensors["lm_head.weight"])  # (vocab, hidden)
    head[kept] = tensors["lm_head.weight"][kept]
    save_file(tensors | {"lm_head.weight": head}, directory / "model.safetensors")
    return directory


def build_tiny(checkpoint: Path, quantization: str, output: Path) -> Path:
    """Build the artefact for the browser, with a library for this machine that computes in float32."""
    choices = {"model": str(checkpoint), "quantization": quantization, "output": output, "context_window": CONTEXT}
    build(BuildRequest(**choices, targets=("webgpu",)), SilentProgress())
    build(BuildRequest(**choices, targets=("cpu",), activations="f32", kv="f32"), SilentProgress())
    return output


def only_in_float16(artefact: Path, copy: Path) -> Path:
    """Copy an artefact without the library for GPUs without 16-bit floats, like one of an older version."""
    shutil.copytree(artefact, copy)
    manifest = read_manifest(copy)
    libraries = {name: record for name, record in manifest.libraries.items() if name != WEBGPU_F32.name}
    assert len(libraries) < len(manifest.libraries)
    write_manifest(copy, dataclasses.replace(manifest, libraries=libraries))
    return copy
