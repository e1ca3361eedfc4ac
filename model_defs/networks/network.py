"""Define what every kind of network has in common: parameters, entry points, and a state between calls."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.component import StateKind
from argosy.model_defs.components.parts import Slot

if TYPE_CHECKING:
    from tvm.ir import IRModule
    from tvm.relax.frontend import nn


@dataclass(frozen=True, slots=True)
class Argument:
    """A tensor argument of an entry point.

    Words in `shape` are symbolic sizes, except `hidden`, the hidden size; `dtype` may be `activation`, the dtype that
    the network computes in.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """A function of the compiled library: tensor arguments, then the state if `stateful`, then the parameters."""

    arguments: tuple[Argument, ...]
    stateful: bool = True


class NetworkModule(Protocol):
    """The module that computes a network, with parameters stored in chosen formats."""

    def export(self, names: Collection[str]) -> tuple[IRModule, list[tuple[str, nn.Parameter]]]:
        """Return the entry points `names` as an IRModule, and the parameters in the order in which they take them."""
        ...


class Network(Protocol):
    """A network as the compiler sees it; specs such as `DecoderSpec` implement it.

    `attention` has the layers that keep keys and values, `window` the one window in tokens that sliding ones share.
    """

    @property
    def model_type(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_layers(self) -> int: ...
    @property
    def context_window(self) -> int: ...
    @property
    def window(self) -> int | None: ...
    @property
    def attention(self) -> tuple[AttentionSpec, ...]: ...
    @property
    def state_kind(self) -> StateKind: ...
    @property
    def entry_points(self) -> Mapping[str, EntryPoint]: ...

    def slots(self) -> Iterator[Slot]:
        """Yield every parameter, in the order of the compiled library."""
        ...

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the whole description."""
        ...
