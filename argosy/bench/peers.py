"""Artefacts and the names of other programs go in; who runs beside whom, with which weights, comes out."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from argosy.dist.catalogue import resolve_model
from argosy.dist.manifest import Manifest
from argosy.support.errors import UsageError
from argosy.support.text import did_you_mean

AS_SHIPPED = "as shipped"
# Scheme -> the GGUF type that stores a matrix with as many bits, in groups of the same size.
SAME_BITS = {"q4f16_1": "Q4_0", "q8f16_1": "Q8_0", "q0f16": "F16", "q0f32": "F32", "keep": AS_SHIPPED}


@dataclass(frozen=True, slots=True)
class Peer:
    """Another program that reads GGUF files: the module and the package that it comes in, and our worker for it."""

    name: str
    module: str
    package: str
    worker: str


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("llama.cpp", "llama_cpp", "llama-cpp-python", "argosy.bench.worker_llama"),
        Peer("openvino", "openvino_genai", "openvino-genai", "argosy.bench.worker_openvino"),
    )
}


@dataclass(frozen=True, slots=True)
class Ours:
    """An artefact that is measured."""

    name: str
    directory: Path
    manifest: Manifest
    vocab_size: int

    @property
    def scheme(self) -> str:
        """How its weights are stored."""
        return self.manifest.quantization


@dataclass(frozen=True, slots=True)
class Rival:
    """A peer with weights of one kind: a GGUF type for every matrix, or the file `as shipped`."""

    peer: Peer
    weights: str

    @property
    def name(self) -> str:
        """`llama.cpp Q4_0`."""
        return f"{self.peer.name} {self.weights}"

    def has_the_bits_of(self, ours: Ours) -> bool:
        """Whether its weights take as many bits as those of `ours`."""
        return SAME_BITS.get(ours.scheme) == self.weights


def peers_named(names: Sequence[str]) -> tuple[Peer, ...]:
    """The peers called `names`, all of them installed. Raises UsageError."""
    for name in names:
        if name not in PEERS:
            raise UsageError(f"unknown program `{name}` for `--vs`", did_you_mean(name, PEERS))
        if importlib.util.find_spec(PEERS[name].module) is None:
            sentence = f"`{name}` cannot be compared with: the package `{PEERS[name].package}` is not installed"
            raise UsageError(sentence, f"pip install {PEERS[name].package}")
    return tuple(PEERS[name] for name in dict.fromkeys(names))


def rivals_of(artefacts: Sequence[Ours], peers: Sequence[Peer]) -> tuple[Rival, ...]:
    """For each peer the file as shipped, and before it every kind of weights that has the bits of an artefact."""
    kinds = dict.fromkeys(SAME_BITS[ours.scheme] for ours in artefacts if ours.scheme in SAME_BITS)
    kinds.pop(AS_SHIPPED, None)
    return tuple(Rival(peer, kind) for peer in peers for kind in (*kinds, AS_SHIPPED))


def gguf_of(artefacts: Sequence[Ours]) -> Path:
    """The GGUF file that all `artefacts` were built from. Raises UsageError where they were not."""
    first = artefacts[0].manifest
    for ours in artefacts:
        if ours.manifest.checkpoint_digest != first.checkpoint_digest:
            sentence = f"`{artefacts[0].name}` and `{ours.name}` were built from different checkpoints"
            raise UsageError(sentence, "compare them one by one")
    path = resolve_model(first.model).path
    if path.suffix != ".gguf":
        raise UsageError(
            f"`--vs` needs a model that is a GGUF file, and `{first.model}` is not",
            "leave `--vs` out, or build from the model's .gguf file with `argosy build --model FILE.gguf`",
        )
    return path
