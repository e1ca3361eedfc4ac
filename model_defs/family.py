"""What a family is, and how its checkpoints spell our parameters: a `Slot` goes in, its `Source`s come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from argosy.model_defs.config import Config
from argosy.model_defs.parameters import Slot, Source
from argosy.model_defs.spec import DecoderSpec

# What we merge, and the checkpoint's parts of it.
PARTS = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


@dataclass(frozen=True, slots=True)
class Names:
    """How a family spells its tensors, told as differences from the Hugging Face llama spelling.

    rename:  (ours, theirs) pieces of a name, each replaced where it occurs, in order.
    merged:  which of `PARTS` the checkpoint already stores merged.
    adapt:   module (`qkv_proj`, ...) -> adapter of its tensors, see `parameters.ADAPTERS`.
    prefix:  the other spellings of the front of a name: (as `rename` leaves it, as the checkpoint may have it).
    ignored: patterns (`fnmatch`) of tensors that are left out: derived tables, and what the family's notice mentions.
    split:   parameter (`q_norm`, ...) -> the names in place of it, one for each head.
    """

    rename: tuple[tuple[str, str], ...] = ()
    merged: frozenset[str] = frozenset()
    adapt: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    split: Mapping[str, str] = field(default_factory=dict)

    def sources(self, spec: DecoderSpec, slot: Slot) -> tuple[Source, ...]:
        """The checkpoint tensors that `slot` is made of, in the order of its rows."""
        module, leaf = (slot.name, "weight") if slot.kind != "plain" else tuple(slot.name.rsplit(".", 1))
        parent, _, last = module.rpartition(".")
        rest = slot.shape[1:]
        if last in self.split and len(slot.shape) == 2:
            return tuple(
                Source(self._theirs(f"{parent}.{self.split[last].format(head)}.{leaf}"), rest, "row")
                for head in range(slot.shape[0])
            )
        if last in PARTS and last not in self.merged:
            rows = zip(PARTS[last], _part_rows(spec, last), strict=True)
            return tuple(Source(self._theirs(f"{parent}.{part}.{leaf}"), (n, *rest)) for part, n in rows)
        adapt, shape = self.adapt.get(last, "none"), slot.shape
        if adapt == "transpose":
            adapt, shape = ("transpose", shape[::-1]) if rest else ("none", shape)
        return (Source(self._theirs(f"{module}.{leaf}"), shape, adapt, spec.attention.heads),)

    def _theirs(self, name: str) -> str:
        for ours, theirs in self.rename:
            name = name.replace(ours, theirs)
        return name

    def placed(self, name: str, present: frozenset[str]) -> str:
        """`name` as a checkpoint with the tensors `present` spells its front."""
        if name not in present:
            for ours, theirs in self.prefix:
                other = theirs + name.removeprefix(ours)
                if name.startswith(ours) and other in present:
                    return other
        return name


@dataclass(frozen=True, slots=True)
class Family:
    """A `model_type`: its spec, its names, and a config so small that a test builds it in seconds.

    `notice` is a sentence for whoever builds it, about what is left out.
    """

    spec: Callable[[Config], DecoderSpec]
    tiny_config: Mapping[str, object]
    names: Names = Names()
    notice: str | None = None


def _part_rows(spec: DecoderSpec, merged: str) -> tuple[int, ...]:
    """Rows of each part of `merged`."""
    attention = spec.attention
    if merged == "qkv_proj":
        kv = attention.kv_heads * attention.head_dim
        return attention.heads * attention.head_dim, kv, kv
    return spec.feed_forward.size, spec.feed_forward.size
