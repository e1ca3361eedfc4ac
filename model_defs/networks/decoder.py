"""Build the module of a decoder-only language model, with the entry points that the compiled library exports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass

from tvm import te
from tvm.ir import IRModule
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn import spec as nn_spec
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from argosy.model_defs.components.modules import ForwardContext, Matrix, Node, Storage, gather
from argosy.model_defs.components.rotation import rotation
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec, Topology


@dataclass(frozen=True, slots=True)
class Block:
    """One layer in one call. `index` counts the layers whose state is of the same kind."""

    node: Node
    layer: LayerSpec
    norms: dict[str, str]
    context: ForwardContext
    index: int

    def mix(self, x: Tensor) -> Tensor:
        """Emit the mixer."""
        return self.layer.mixer.forward(self.node["self_attn"], x, self.context, self.index)

    def feed(self, x: Tensor) -> Tensor:
        """Emit the feed-forward."""
        return self.layer.feed_forward.forward(self.node["mlp"], x)

    def norm(self, place: str, x: Tensor) -> Tensor:
        """Emit the norm at `place` (see `decoder_spec.NORMS`)."""
        return self.node[self.norms[place]](x)


def _pre_norm(block: Block, x: Tensor) -> Tensor:
    x = x + block.mix(block.norm("before_mixer", x))
    return x + block.feed(block.norm("before_feed_forward", x))


def _parallel(block: Block, x: Tensor) -> Tensor:
    y = block.norm("before_mixer", x)
    z = block.norm("before_feed_forward", x) if "before_feed_forward" in block.norms else y
    return x + block.mix(y) + block.feed(z)


def _post_norm(block: Block, x: Tensor) -> Tensor:
    x = x + block.norm("after_mixer", block.mix(x))
    return x + block.norm("after_feed_forward", block.feed(x))


def _sandwich(block: Block, x: Tensor) -> Tensor:
    x = x + block.norm("after_mixer", block.mix(block.norm("before_mixer", x)))
    return x + block.norm("after_feed_forward", block.feed(block.norm("before_feed_forward", x)))


TOPOLOGIES: dict[Topology, Callable[[Block, Tensor], Tensor]] = {
    "pre_norm": _pre_norm,
    "parallel": _parallel,
    "post_norm": _post_norm,
    "sandwich": _sandwich,
}


class Decoder(Node):
    """A language model whose parameters have the names and the order of `DecoderSpec.parts`.

    Everything is computed in the storage's `activation_dtype`, keys and values are cached in its `kv_dtype`; logits are
    float32.
    """

    def __init__(self, spec: DecoderSpec, storage: Storage) -> None:
        self.spec = spec
        self.storage = storage
        self.grow(spec.parts(), storage)

    def _matrix(self, name: str) -> Matrix:
        node = self[name]
        assert isinstance(node, Matrix), name
        return node

    def embed(self, ids: Tensor) -> Tensor:
        """Emit ids (n,) int32 -> (n, hidden)."""
        x = self._matrix("model.embed_tokens").rows(ids)
        scale = self.spec.embedding_scale
        return x if scale == 1.0 else x * Tensor.from_scalar(scale, self.storage.activation_dtype)

    def prefill(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Emit x (1, n, hidden), one sequence -> logits of its last token (1, 1, vocab)."""
        return self._logits(_last(self._layers(x, kv))), kv

    def decode(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Emit x (1, 1, hidden) -> (1, 1, vocab)."""
        return self._logits(self._layers(x, kv)), kv

    def batch_prefill(self, x: Tensor, logit_positions: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Emit x (1, n, hidden), b sequences in a row -> logits of the tokens `logit_positions` (b,): (1, b, vocab)."""
        y = self._layers(x, kv)
        last = gather("logit_rows", y, logit_positions, lambda y, row, column: y[0, row, column])
        b, hidden = last.shape
        return self._logits(op.reshape(last, (1, b, hidden))), kv

    def batch_decode(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Emit x (b, 1, hidden), one token of each sequence -> (b, 1, vocab)."""
        return self._logits(self._layers(x, kv)), kv

    def batch_verify(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """Emit x (1, n, hidden), b sequences one after the other -> logits of every token (1, n, vocab)."""
        return self._logits(self._layers(x, kv)), kv

    def _layers(self, x: Tensor, kv: PagedKVCache) -> Tensor:
        """Emit x (b, s, hidden) after all layers, not yet normalised."""
        spec = self.spec
        b, s, hidden = x.shape
        positions = kv.get_query_positions(b * s)
        if spec.learned_positions is not None:
            x = x + op.reshape(self["model.embed_positions"](positions), (b, s, hidden))
        rotations = [rotation(rope, positions) for rope in spec.ropes]
        context = ForwardContext(kv, rotations, self.storage.activation_dtype, self.storage.kv_dtype)
        before: Counter[str] = Counter()
        for i, layer in enumerate(spec.layers):
            kind = layer.mixer.state_kind
            block = Block(self[f"model.layers.{i}"], layer, spec.layer_norms, context, before[kind])
            x = TOPOLOGIES[spec.topology](block, x)
            before[kind] += 1
        return x

    def _logits(self, x: Tensor) -> Tensor:
        x = self["model.norm"](x)
        head = "model.embed_tokens" if self.spec.tied_embeddings else "lm_head"
        logits = self[head](x).astype("float32")
        return logits if self.spec.logit_softcap is None else _softcap(logits, self.spec.logit_softcap)

    def export(self, names: Collection[str] | None = None) -> tuple[IRModule, list[tuple[str, nn.Parameter]]]:
        """Return the entry points `names` (all by default) as an IRModule, and the parameters in their order."""
        chosen = self.spec.entry_points if names is None else names
        methods = {name: self._method(name) for name in chosen}
        return self.export_tvm(nn_spec.ModuleSpec.from_raw(methods, self))

    def _method(self, name: str) -> dict[str, object]:
        """Describe an entry point to TVM; it takes the parameters packed, last."""
        entry_point = self.spec.entry_points[name]
        method: dict[str, object] = {}
        for argument in entry_point.arguments:
            sizes = [self.spec.hidden_size if size == "hidden" else size for size in argument.shape]
            dtype = self.storage.activation_dtype if argument.dtype == "activation" else argument.dtype
            method[argument.name] = nn_spec.Tensor(sizes, dtype)
        if entry_point.stateful:
            method["kv"] = nn_spec.Object(object_type=PagedKVCache)
        return {**method, "$": {"param_mode": "packed", "effect_mode": "none"}}


def _softcap(x: Tensor, cap: float) -> Tensor:
    """Emit cap * tanh(x / cap)."""
    limit = Tensor.from_scalar(cap, x.dtype)
    return op.tanh(x / limit) * limit


def _last(x: Tensor) -> Tensor:
    """Emit the last token of x (1, n, hidden): (1, 1, hidden)."""

    def compute(x: te.Tensor) -> te.Tensor:
        tokens = x.shape[1]
        return te.compute((1, 1, x.shape[2]), lambda b, s, i: x[b, tokens - 1, i], name="last")

    return op.tensor_expr_op(compute, "last_token", [x])
