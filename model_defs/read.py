"""Read a model from its checkpoint: the network, its parameters, and what of the checkpoint is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from argosy.model_defs.config import Config
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.family import Family
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.parameters import Parameter
from argosy.support.errors import UnsupportedModelError
from argosy.support.text import one_line

# Tensors that old checkpoints of any family may hold although their config determines them.
DERIVED = ("*.rotary_emb.inv_freq", "*.rotary_emb.cos_cached", "*.rotary_emb.sin_cached")


class ConfigAndNames(Protocol):
    """The part of a `Checkpoint` that describes a model: its Hugging Face config and the names of its tensors."""

    @property
    def config(self) -> Mapping[str, object]: ...
    def names(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Model:
    """A checkpoint's network, and how its tensors become parameters.

    `parameters` are in the order of the compiled library. `ignorable` are patterns (`fnmatch`) of tensors that
    conversion leaves out because they carry nothing, or because `notice`, one sentence for the user, mentions them.
    """

    spec: DecoderSpec
    parameters: tuple[Parameter, ...]
    ignorable: tuple[str, ...]
    notice: str | None


def read_model(checkpoint: ConfigAndNames, context_window: int | None = None) -> Model:
    """Read the model in `checkpoint` for a context window of `context_window` tokens, by default the longest.

    Raises CheckpointError if the config is malformed, UnsupportedModelError if it requires something that is not
    implemented, UsageError if the window is too long.
    """
    family = _family_of(checkpoint.config)
    spec = _spec_of(family, checkpoint.config, context_window)
    parameters = tuple(_parameters_of(spec, family, frozenset(checkpoint.names())))
    return Model(spec, parameters, (*DERIVED, *family.names.ignored), family.notice)


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


def _parameters_of(spec: DecoderSpec, family: Family, present: frozenset[str]) -> Iterator[Parameter]:
    """Yield each slot of `spec` with its sources, in the spelling of a checkpoint that holds `present`."""
    for slot in spec.slots():
        sources = tuple(
            replace(source, name=family.names.placed(source.name, present)) for source in family.names.sources(slot)
        )
        yield Parameter(slot.name, slot.kind, slot.shape, sources)
