"""The kinds of layer that networks are made of, one file each.

A component is a frozen record of numbers and words. Its `parts` lists its parameters, once, in the order of the
library; the module that holds them is built from that list, and `forward` emits the operators that use them. Records
are made and compared without TVM, which only `forward` imports.
"""

from __future__ import annotations

from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.dense import GatedSpec, PlainSpec

# Every kind of mixer and feed-forward, and the word for it in digests.
COMPONENTS: dict[type, str] = {
    AttentionSpec: "attention",
    GatedSpec: "gated",
    PlainSpec: "plain",
}
