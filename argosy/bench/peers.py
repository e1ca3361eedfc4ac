"""Choose the programs to compare artefacts with, and the weights they run with."""

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
# The GGUF type with the bits and the group size of a scheme.
SAME_BITS = {"q4f16_1": "Q4_0", "q8f16_1": "Q8_0", "q0f16": "F16", "q0f32": "F32", "keep": AS_SHIPPED}


@dataclass(frozen=True, slots=True)
class PeerProgram:
    """Another program that reads GGUF files: its Python module and package, and our worker for it."""

    name: str
    module: str
    package: str
    worker: str


PEER_PROGRAMS: dict[str, PeerProgram] = {
    program.name: program
    for program in (
        PeerProgram("llama.cpp", "llama_cpp", "llama-cpp-python", "argosy.bench.worker_llama"),
        PeerProgram("openvino", "openvino_genai", "openvino-genai", "argosy.bench.worker_openvino"),
    )
}


@dataclass(frozen=True, slots=True)
class Ours:
    """An artefact to measure."""

    name: str
    directory: Path
    manifest: Manifest
    vocab_size: int

    @property
    def scheme(self) -> str:
        """The scheme its weights are stored in."""
        return self.manifest.quantization


@dataclass(frozen=True, slots=True)
class Peer:
    """A program with weights of one kind: every matrix in one GGUF type, or the file `as shipped`."""

    program: PeerProgram
    weights: str

    @property
    def name(self) -> str:
        """The name shown, such as `llama.cpp Q4_0`."""
        return f"{self.program.name} {self.weights}"

    def has_the_bits_of(self, ours: Ours) -> bool:
        """Return whether its weights take as many bits as those of `ours`."""
        return SAME_BITS.get(ours.scheme) == self.weights


def programs_named(names: Sequence[str]) -> tuple[PeerProgram, ...]:
    """Return the programs called `names`. Raises UsageError unless all are known and installed."""
    for name in names:
        if name not in PEER_PROGRAMS:
            raise UsageError(f"unknown program `{name}` for `--vs`", did_you_mean(name, PEER_PROGRAMS))
        if importlib.util.find_spec(PEER_PROGRAMS[name].module) is None:
            sentence = f"`{name}` cannot run: the package `{PEER_PROGRAMS[name].package}` is not installed"
            raise UsageError(sentence, f"pip install {PEER_PROGRAMS[name].package}")
    return tuple(PEER_PROGRAMS[name] for name in dict.fromkeys(names))


def peers_of(artefacts: Sequence[Ours], programs: Sequence[PeerProgram]) -> tuple[Peer, ...]:
    """List every program with each kind of weights that has the bits of an artefact, then with the file as shipped."""
    kinds = dict.fromkeys(SAME_BITS[ours.scheme] for ours in artefacts if ours.scheme in SAME_BITS)
    kinds.pop(AS_SHIPPED, None)
    return tuple(Peer(program, kind) for program in programs for kind in (*kinds, AS_SHIPPED))


def gguf_of(artefacts: Sequence[Ours]) -> Path:
    """Return the GGUF file that all `artefacts` were built from. Raises UsageError if there is no such file."""
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
