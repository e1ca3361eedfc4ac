"""Define what a layer of a network is made of: a mixer, which looks at other tokens, and a feed-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from argosy.model_defs.components.parts import Part

if TYPE_CHECKING:
    from tvm.relax.frontend.nn import Tensor

    from argosy.model_defs.components.modules import ForwardContext, Node

StateKind = Literal["kv_cache"]  # what a layer remembers of earlier tokens


class Mixer(Protocol):
    """A component that lets a token depend on earlier ones, such as attention."""

    @property
    def state_kind(self) -> StateKind: ...

    def parts(self, hidden: int) -> dict[str, Part]:
        """Return the parameters by name, in the order of the library, for tokens of `hidden` numbers."""
        ...

    def forward(self, parts: Node, x: Tensor, context: ForwardContext, index: int) -> Tensor:
        """Emit x (b, s, hidden) -> (b, s, hidden). `index` counts the layers whose state is of the same kind."""
        ...


class FeedForward(Protocol):
    """A component that treats every token alone, such as a gated multilayer perceptron."""

    def parts(self, hidden: int) -> dict[str, Part]:
        """Return the parameters by name, in the order of the library, for tokens of `hidden` numbers."""
        ...

    def forward(self, parts: Node, x: Tensor) -> Tensor:
        """Emit x (b, s, hidden) -> (b, s, hidden)."""
        ...
