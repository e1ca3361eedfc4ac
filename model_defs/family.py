"""Define what a family is, and how its checkpoints spell our parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from argosy.model_defs.components.parts import Slot
from argosy.model_defs.config import Config
from argosy.model_defs.derived import Buffer
from argosy.model_defs.networks.decoder_spec import DecoderSpec
from argosy.model_defs.parameters import Source


@dataclass(frozen=True, slots=True)
class Names:
    """How a family spells its tensors, as differences from the Hugging Face llama spelling.

    rename:  (ours, theirs) pieces of a name, each replaced where it occurs, in order.
    merged:  modules that the checkpoint already stores merged (`qkv_proj`, `gate_up_proj`).
    adapt:   module (`qkv_proj`, ...) -> adapter of its tensors, see `parameters.ADAPTERS`.
    prefix:  the other spellings of the front of a name: (as `rename` leaves it, as the checkpoint may have it).
    derived: patterns (`fnmatch`) of buffers that the config determines, left out after comparing their values.
    ignored: patterns of tensors that are left out as the family's notice says.
    split:   parameter (`q_norm`, ...) -> the names in place of it, one for each head.
    """

    rename: tuple[tuple[str, str], ...] = ()
    merged: frozenset[str] = frozenset()
    adapt: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[tuple[str, str], ...] = ()
    derived: Mapping[str, Buffer] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    split: Mapping[str, str] = field(default_factory=dict)

    def sources(self, slot: Slot) -> tuple[Source, ...]:
        """Return the checkpoint tensors that `slot` is made of, in the order of its rows."""
        module, _, leaf = (slot.name, "", "weight") if slot.kind != "plain" else slot.name.rpartition(".")
        parent, _, last = module.rpartition(".")
        rest = slot.shape[1:]
        if last in self.split and len(slot.shape) == 2:
            return tuple(
                Source(self._theirs(f"{parent}.{self.split[last].format(head)}.{leaf}"), rest, "row")
                for head in range(slot.shape[0])
            )
        if slot.pieces and last not in self.merged:
            return tuple(
                Source(self._theirs(f"{parent}.{piece.name}.{leaf}"), (piece.rows, *rest)) for piece in slot.pieces
            )
        adapt, shape = self.adapt.get(last, "none"), slot.shape
        if adapt == "transpose":
            adapt, shape = ("transpose", shape[::-1]) if rest else ("none", shape)
        return (Source(self._theirs(f"{module}.{leaf}"), shape, adapt, slot.heads),)

    def _theirs(self, name: str) -> str:
        for ours, theirs in self.rename:
            name = name.replace(ours, theirs)
        return name

    def spelled(self, name: str, present: frozenset[str]) -> str:
        """Return our parameter's `name` as a checkpoint that holds the tensors `present` spells it."""
        return self.placed(self._theirs(name), present)

    def placed(self, name: str, present: frozenset[str]) -> str:
        """Return `name` with its front as a checkpoint that holds the tensors `present` spells it."""
        if name not in present:
            for ours, theirs in self.prefix:
                other = theirs + name.removeprefix(ours)
                if name.startswith(ours) and other in present:
                    return other
        return name


@dataclass(frozen=True, slots=True)
class Family:
    """A `model_type`: its network, its names, and a config so small that a test builds it in seconds.

    `notice` is a sentence for the user about what is left out.
    """

    spec: Callable[[Config], DecoderSpec]
    tiny_config: Mapping[str, object]
    names: Names = Names()
    notice: str | None = None
