"""The families by `model_type`: a Hugging Face config goes in, a `DecoderSpec` and its `Parameter`s come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from argosy.model_defs.config import Config, shown
from argosy.model_defs.families import FAMILIES
from argosy.model_defs.family import Family
from argosy.model_defs.parameters import Parameter, slots
from argosy.model_defs.spec import DecoderSpec
from argosy.support.errors import UnsupportedModelError

__all__ = ["FAMILIES", "family_of", "ignorable", "notice", "parameters_of", "spec_from_config"]

# Tensors that old checkpoints of any family may hold and that a config already determines.
DERIVED = ("*.rotary_emb.inv_freq", "*.rotary_emb.cos_cached", "*.rotary_emb.sin_cached")


def family_of(config: Mapping[str, object]) -> Family:
    """The family of `config`'s `model_type`.

    Raises UnsupportedModelError for a type that is not known.
    """
    model_type = Config(config).text("model_type")
    if model_type not in FAMILIES:
        raise UnsupportedModelError(
            f"model type `{shown(model_type)}` is not supported", f"supported: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[model_type]


def spec_from_config(config: Mapping[str, object], context_window: int | None = None) -> DecoderSpec:
    """The network that the Hugging Face `config` describes, for a context window of `context_window` tokens.

    None means the longest that the config promises. Raises CheckpointError where the config is malformed,
    UnsupportedModelError where it asks for something that is not implemented, UsageError for a window too long.
    """
    family = family_of(config)
    reader = Config(config, context_window)
    if "quantization_config" in reader:
        raise UnsupportedModelError(
            "`quantization_config`: checkpoints that are already quantized are not supported",
            "use the original checkpoint, or a GGUF file",
        )
    return family.spec(reader)


def parameters_of(spec: DecoderSpec, config: Mapping[str, object], names: Iterable[str] = ()) -> tuple[Parameter, ...]:
    """The parameters of `spec`, in the order of the compiled library, with the checkpoint tensors that each is made of.

    `names` are the checkpoint's tensor names, for families whose checkpoints come in more than one spelling.
    """
    spelling, present = family_of(config).names, frozenset(names)
    parameters = []
    for slot in slots(spec):
        sources = tuple(
            replace(source, name=spelling.placed(source.name, present)) for source in spelling.sources(spec, slot)
        )
        parameters.append(Parameter(slot.name, slot.kind, slot.shape, sources))
    return tuple(parameters)


def ignorable(config: Mapping[str, object]) -> tuple[str, ...]:
    """Patterns (`fnmatch`) of the tensors that conversion leaves out: they carry nothing, or `notice` says so."""
    return (*DERIVED, *family_of(config).names.ignored)


def notice(config: Mapping[str, object]) -> str | None:
    """One sentence about what of the checkpoint is left out, or None."""
    return family_of(config).notice
