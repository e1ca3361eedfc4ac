"""Choose the storage format of every matrix of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from argosy.quant.formats import BLOCK_FORMATS, blocks_fit
from argosy.quant.inputs import StoredParameter, TensorSource
from argosy.quant.scheme import F16, F32, INT4_MIN_F16, Format, Scheme
from argosy.support.errors import SchemeError

FLOAT_TYPES = frozenset({"F64", "F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """How a model's tensors are stored.

    `formats` has an entry for every linear and embedding parameter; all others are stored as `plain`.
    `notes` are sentences for the user: what is lost, and how not to lose it.
    """

    formats: dict[str, Format]
    plain: Format
    notes: tuple[str, ...] = ()

    def format_of(self, parameter: StoredParameter) -> Format:
        """Return the format that `parameter` is stored in."""
        return self.plain if parameter.kind == "plain" else self.formats[parameter.name]


def choose_formats(parameters: Sequence[StoredParameter], scheme: Scheme, checkpoint: TensorSource) -> StoragePlan:
    """Plan the storage of `parameters` by `scheme`; their sources must be in the checkpoint (`check_sources`).

    Raises SchemeError for `keep` on a checkpoint that holds no blocks to keep.
    """
    matrices = [p for p in parameters if p.kind != "plain"]
    types = {p.name: _stored_types(p, checkpoint) for p in matrices}
    keepable = any(kinds & BLOCK_FORMATS.keys() for kinds in types.values())
    if scheme.matrix is not None:
        formats = {p.name: scheme.matrix for p in matrices}
        return StoragePlan(formats, scheme.plain, _requantized(types, scheme, keepable))
    if not keepable:
        found = ", ".join(sorted(set().union(*types.values())))
        raise SchemeError(
            f"scheme `{scheme.name}` keeps {', '.join(BLOCK_FORMATS)} blocks, but the checkpoint holds `{found}` only",
            "use --quantization q4f16_1, or q0f16 to leave it unquantized",
        )
    kept = {p.name: _kept(p, types[p.name]) for p in matrices}
    formats = {name: F16 if fmt is None else fmt for name, fmt in kept.items()}
    widened = {name: types[name] for name, fmt in kept.items() if fmt is None}
    notes = tuple(
        f"{_matrices(count)} stored as {kinds} cannot be kept and became 16-bit floats"
        for kinds, count in _by_types(widened)
    )
    return StoragePlan(formats, scheme.plain, notes)


def _stored_types(parameter: StoredParameter, checkpoint: TensorSource) -> frozenset[str]:
    return frozenset(checkpoint.stored_type(source.name) for source in parameter.sources)


def _kept(parameter: StoredParameter, kinds: frozenset[str]) -> Format | None:
    """Return the format that stores every source of `parameter` without loss, or None."""
    if kinds == {"F16"}:
        return F16
    if kinds <= FLOAT_TYPES:
        return F32
    if not all(source.reorders_rows_only for source in parameter.sources):
        return None
    candidates = [*(BLOCK_FORMATS[kind] for kind in sorted(kinds & BLOCK_FORMATS.keys())), INT4_MIN_F16]
    return next((fmt for fmt in candidates if all(blocks_fit(kind, fmt) for kind in kinds)), None)


def _requantized(types: dict[str, frozenset[str]], scheme: Scheme, keepable: bool) -> tuple[str, ...]:
    """Return a note for each stored type that is already quantized and is rounded a second time."""
    fmt = scheme.matrix
    assert fmt is not None
    if fmt.bits == 0:
        return ()
    again = {
        name: kinds for name, kinds in types.items() if not all(k in FLOAT_TYPES or blocks_fit(k, fmt) for k in kinds)
    }
    way_out = "for CPUs, --quantization keep loses nothing" if keepable else "a checkpoint in 16-bit floats loses less"
    return tuple(
        f"{_matrices(count)} stored as {kinds}, requantized to {scheme.name}; {way_out}"
        for kinds, count in _by_types(again)
    )


def _by_types(types: dict[str, frozenset[str]]) -> list[tuple[str, int]]:
    """Count the matrices of each mix of stored types, the most frequent first."""
    return Counter(" and ".join(sorted(kinds)) for kinds in types.values()).most_common()


def _matrices(count: int) -> str:
    return "1 matrix" if count == 1 else f"{count} matrices"
