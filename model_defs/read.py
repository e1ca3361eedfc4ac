"""Read a model from its checkpoint: the network, its parameters, and what of the checkpoint is left out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Protocol

import numpy as np

from argosy.model_defs.components.rope import RopeSpec
from argosy.model_defs.config import Config
from argosy.model_defs.derived import derived_names
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.parameters import Parameter
from argosy.support.errors import ArgosyError, UnsupportedModelError
from argosy.support.text import one_line

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
KEPT_HEAD = (
    "`config.json` says that the output matrix is the embedding, but the checkpoint holds another matrix, which is used"
)


class ConfigAndTensors(Protocol):
    """The part of a `Checkpoint` that describes a model: its Hugging Face config, and its tensors."""

    @property
    def config(self) -> Mapping[str, object]: ...
    def names(self) -> tuple[str, ...]: ...
    def read(self, name: str) -> np.ndarray: ...
    def equal(self, one: str, other: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint's network, and how its tensors become parameters.

    `parameters` are in the order of the compiled library. `ignorable` are the names of tensors that conversion leaves
    out: copies and buffers whose values were compared, and those that one of `notices`, sentences for the user,
    mentions.
    """

    spec: DecoderSpec
    parameters: tuple[Parameter, ...]
    ignorable: tuple[str, ...]
    notices: tuple[str, ...]


def read_model(checkpoint: ConfigAndTensors, context_window: int | None = None) -> Model:
    """Read the model in `checkpoint` for a context window of `context_window` tokens, by default the longest.

    Tensors are read only to compare those that may be left out. Raises CheckpointError if the config is malformed,
    UnsupportedModelError if it requires something that is not implemented or if such a tensor has other values than the
    config says, UsageError if the window is too long.
    """
    family = _family_of(checkpoint.config)
    names, present = family.names, frozenset(checkpoint.names())
    spec = _spec_of(family, checkpoint.config, context_window)
    notices = [] if family.notice is None else [family.notice]
    embedding, head = names.spelled(EMBEDDING, present), names.spelled(HEAD, present)
    left_out = []
    if spec.tied_embeddings and head in present:
        if embedding not in present:
            embedding = head  # the same matrix under its other name
        elif checkpoint.equal(head, embedding):
            left_out.append(head)
        else:
            spec = replace(spec, tied_embeddings=False)
            notices.append(KEPT_HEAD)
    parameters = tuple(_parameters_of(spec, family, present, embedding))
    rest = sorted(present.difference(left_out, (source.name for p in parameters for source in p.sources)))
    left_out += [name for name in rest if any(fnmatchcase(name, pattern) for pattern in names.ignored)]
    left_out += derived_names(rest, names.derived, checkpoint, _ropes(spec, family, checkpoint.config, context_window))
    return Model(spec, parameters, tuple(left_out), tuple(notices))


def _ropes(
    spec: DecoderSpec, family: Family, config: Mapping[str, object], context_window: int | None
) -> Iterator[RopeSpec]:
    """Yield the ropes of a model, with the scaling of its config and without: saved tables have one or the other."""
    yield from spec.ropes
    if config.get("rope_scaling") is not None:
        with contextlib.suppress(ArgosyError):  # a window that only the scaling allows
            yield from family.spec(Config({**config, "rope_scaling": None}, context_window)).ropes


def read_spec(config: Mapping[str, object], context_window: int | None = None) -> DecoderSpec:
    """Read the network alone, from a Hugging Face config; the errors are those of `read_model`."""
    return _spec_of(_family_of(config), config, context_window)


def _family_of(config: Mapping[str, object]) -> Family:
    model_type = Config(config).text("model_type")
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"model type `{one_line(model_type)}` is not supported", f"supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def _spec_of(family: Family, config: Mapping[str, object], context_window: int | None) -> DecoderSpec:
    reader = Config(config, context_window)
    if "quantization_config" in reader:
        raise UnsupportedModelError(
            "`quantization_config`: checkpoints that are already quantized are not supported",
            "use the original checkpoint, or a GGUF file",
        )
    return family.spec(reader)


def _parameters_of(spec: DecoderSpec, family: Family, present: frozenset[str], embedding: str) -> Iterator[Parameter]:
    """Yield each slot of `spec` with its sources, as a checkpoint that holds `present` spells them.

    `embedding` is the tensor that holds the embedding.
    """
    for slot in spec.slots():
        sources = tuple(
            replace(source, name=family.names.placed(source.name, present)) for source in family.names.sources(slot)
        )
        if slot.name == "model.embed_tokens":
            sources = tuple(replace(source, name=embedding) for source in sources)
        yield Parameter(slot.name, slot.kind, slot.shape, sources)
