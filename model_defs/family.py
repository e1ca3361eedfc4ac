"""What a model family is, and how its checkpoints spell our parameters: a `Slot` goes in, its checkpoint `Source`s come out."""

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
        module, _, leaf = slot.name.rpartition(".")
        if slot.kind != "plain":
            module, leaf = slot.name, "weight"
        parent, _, last = module.rpartition(".")
        if last in PARTS and last not in self.merged:
            rows = _part_rows(spec, last)
            pieces = [(f"{parent}.{part}", n) for part, n in zip(PARTS[last], rows, strict=True)]
        elif last in self.split:
            rows = slot.shape[0]
            pieces = [(f"{parent}.{self.split[last].format(i)}", 0) for i in range(rows)]
        else:
            pieces = [(module, slot.shape[0])]
        adapt = self.adapt.get(last, "none")
        return tuple(self._source(spec, f"{name}.{leaf}", slot, rows, adapt) for name, rows in pieces)

    def _source(self, spec: DecoderSpec, name: str, slot: Slot, rows: int, adapt: str) -> Source:
        for ours, theirs in self.rename:
            name = name.replace(ours, theirs)
        shape = (rows, *slot.shape[1:]) if rows else slot.shape[1:]
        if adapt == "transpose":
            if len(shape) == 1:
                adapt = "none"
            shape = shape[::-1]
        return Source(name, shape, "row" if not rows else adapt, spec.attention.heads)

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

