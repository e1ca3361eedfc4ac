"""The network: a `DecoderSpec` and storage formats go in, an `nn.Module` with the exported entry points comes out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from tvm import te, tirx
from tvm.ir import IRModule
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import Tensor, op
from tvm.relax.frontend.nn import spec as nn_spec
from tvm.relax.frontend.nn.llm.kv_cache import PagedKVCache

from argosy.model_defs.layers import (
    FEED_FORWARDS,
    Attention,
    Linear,
    Matrix,
    Norm,
    Rotation,
    Storage,
    rotation,
    softcap,
)
from argosy.model_defs.parameters import layer_norms
from argosy.model_defs.spec import DecoderSpec, Topology
from argosy.quant.scheme import Format

Branch = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """One block: attention and feed-forward, with norms where the topology has them."""

    def __init__(self, spec: DecoderSpec, index: int, storage: Storage) -> None:
        name = f"model.layers.{index}"
        self.index = index
        self.rope = spec.layers[index].rope
        self.scale = spec.attention.scale * spec.layers[index].scale
        self.combine = TOPOLOGIES[spec.topology]
        self.self_attn = Attention(spec, f"{name}.self_attn", storage)
        self.mlp = FEED_FORWARDS[spec.feed_forward.kind](spec, f"{name}.mlp", storage)
        self.norms = layer_norms(spec)
        for norm in self.norms.values():
            setattr(self, norm, Norm(spec.norm, (spec.hidden_size,), storage))

    def forward(self, x: Tensor, kv: PagedKVCache, rotations: list[Rotation]) -> Tensor:
        turn = rotations[self.rope] if rotations else None
        return self.combine(self, x, lambda y: self.self_attn(y, kv, self.index, self.scale, turn))

    def norm(self, place: str, x: Tensor) -> Tensor:
        """The norm that stands at `place` (see `parameters.NORMS`)."""
        return getattr(self, self.norms[place])(x)


def _pre_norm(layer: Layer, x: Tensor, attention: Branch) -> Tensor:
    x = x + attention(layer.norm("before_attention", x))
    return x + layer.mlp(layer.norm("before_feed_forward", x))


def _parallel(layer: Layer, x: Tensor, attention: Branch) -> Tensor:
    y = layer.norm("before_attention", x)
    z = layer.norm("before_feed_forward", x) if "before_feed_forward" in layer.norms else y
    return x + attention(y) + layer.mlp(z)


def _post_norm(layer: Layer, x: Tensor, attention: Branch) -> Tensor:
    x = x + layer.norm("after_attention", attention(x))
    return x + layer.norm("after_feed_forward", layer.mlp(x))


def _sandwich(layer: Layer, x: Tensor, attention: Branch) -> Tensor:
    x = x + layer.norm("after_attention", attention(layer.norm("before_attention", x)))
    return x + layer.norm("after_feed_forward", layer.mlp(layer.norm("before_feed_forward", x)))


TOPOLOGIES: dict[Topology, Callable[[Layer, Tensor, Branch], Tensor]] = {
    "pre_norm": _pre_norm,
    "parallel": _parallel,
    "post_norm": _post_norm,
    "sandwich": _sandwich,
}


class Body(nn.Module):
    """Everything between token ids and the last norm."""

    def __init__(self, spec: DecoderSpec, storage: Storage) -> None:
        self.embed_tokens = Matrix("model.embed_tokens", (spec.vocab_size, spec.hidden_size), storage)
        self.embed_positions = None
        if spec.learned_positions is not None:
            self.embed_positions = Positions(spec.learned_positions, spec.hidden_size, storage)
        self.layers = nn.ModuleList([Layer(spec, i, storage) for i in range(len(spec.layers))])
        self.norm = Norm(spec.norm, (spec.hidden_size,), storage)
        self.ropes = spec.ropes

    def forward(self, x: Tensor, kv: PagedKVCache) -> Tensor:
        """x (b, s, hidden) after all layers, not yet normalised."""
        b, s, hidden = x.shape
        positions = kv.get_query_positions(b * s)
        if self.embed_positions is not None:
            x = x + op.reshape(self.embed_positions(positions), (b, s, hidden))
        rotations = [rotation(rope, positions) for rope in self.ropes]
        for layer in self.layers:
            x = layer(x, kv, rotations)
        return x


class Positions(nn.Module):
    """A learned vector for each position."""

    def __init__(self, rows: int, hidden: int, storage: Storage) -> None:
        self.activation = storage.activation
        self.weight = nn.Parameter((rows, hidden), storage.plain.dtype)

    def forward(self, positions: Tensor) -> Tensor:
        rows = _gather("position_rows", self.weight, positions, lambda weight, row, column: weight[row, column])
        return rows.astype(self.activation)


class Decoder(nn.Module):
    """A language model whose parameters have the names and the order of `parameters.slots`.

    `formats` has the format of every linear and embedding parameter, `plain` is that of all others. Everything is
    computed in `activation_dtype`; keys and values are cached in `kv_dtype`; logits are float32.
    """

    def __init__(
        self,
        spec: DecoderSpec,
        formats: Mapping[str, Format],
        plain: Format,
        activation_dtype: str = "float32",
        kv_dtype: str = "float32",
    ) -> None:
        storage = Storage(formats, plain, activation_dtype, kv_dtype)
        self.spec = spec
        self.activation = activation_dtype
        self.model = Body(spec, storage)
        self.lm_head = None
        if not spec.tied_embeddings:
            self.lm_head = Linear("lm_head", (spec.vocab_size, spec.hidden_size), storage, spec.head_bias)

    def embed(self, ids: Tensor) -> Tensor:
        """ids (n,) int32 -> (n, hidden)."""
        x = self.model.embed_tokens.rows(ids)
        scale = self.spec.embedding_scale
        return x if scale == 1.0 else x * Tensor.from_scalar(scale, self.activation)

    def prefill(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """x (1, n, hidden), one sequence -> logits of its last token (1, 1, vocab)."""
        return self._logits(_last(self.model(x, kv))), kv

    def decode(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """x (1, 1, hidden) -> (1, 1, vocab)."""
        return self._logits(self.model(x, kv)), kv

    def batch_prefill(self, x: Tensor, logit_positions: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """x (1, n, hidden), b sequences in a row -> logits of the tokens `logit_positions` (b,): (1, b, vocab)."""
        wanted = _gather("logit_rows", self.model(x, kv), logit_positions, lambda x, row, column: x[0, row, column])
        b, hidden = wanted.shape
        return self._logits(op.reshape(wanted, (1, b, hidden))), kv

    def batch_decode(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """x (b, 1, hidden), one token of each sequence -> (b, 1, vocab)."""
        return self._logits(self.model(x, kv)), kv

    def batch_verify(self, x: Tensor, kv: PagedKVCache) -> tuple[Tensor, PagedKVCache]:
        """x (1, n, hidden), b sequences one after the other -> logits of every token (1, n, vocab)."""
        return self._logits(self.model(x, kv)), kv

    def _logits(self, x: Tensor) -> Tensor:
        x = self.model.norm(x)
        logits = self.model.embed_tokens.multiply(x) if self.lm_head is None else self.lm_head(x)
        logits = logits.astype("float32")
        return logits if self.spec.logit_softcap is None else softcap(logits, self.spec.logit_softcap)

    def export(self, names: Collection[str] | None = None) -> tuple[IRModule, list[tuple[str, nn.Parameter]]]:
        """The entry points `names` (by default all) as an IRModule, and the parameters in the order in which each of
        them takes them."""
        return self.export_tvm(entry_points(self, ENTRY_POINTS if names is None else names))


def _gather(name: str, x: Tensor, rows: Tensor, element: Callable[..., tirx.Expr]) -> Tensor:
    """`element(x, row, column)` for each of `rows` (n,): (n, columns). `op.take` would warn while compiling."""

    def compute(x: te.Tensor, rows: te.Tensor) -> te.Tensor:
        return te.compute((rows.shape[0], x.shape[-1]), lambda i, j: element(x, rows[i], j), name=name)

    return op.tensor_expr_op(compute, name, [x, rows])


def _last(x: Tensor) -> Tensor:
    """The last token of x (1, n, hidden): (1, 1, hidden)."""

    def compute(x: te.Tensor) -> te.Tensor:
        tokens = x.shape[1]
        return te.compute((1, 1, x.shape[2]), lambda b, s, i: x[b, tokens - 1, i], name="last")

    return op.tensor_expr_op(compute, "last_token", [x])


# Entry point -> its tensor arguments before the cache: (name, shape, dtype); `hidden` is the hidden size, `activation`
# the dtype of activations, other words are symbolic sizes.
ENTRY_POINTS: dict[str, tuple[tuple[str, tuple[int | str, ...], str], ...]] = {
    "embed": (("ids", ("n",), "int32"),),
    "prefill": (("x", (1, "n", "hidden"), "activation"),),
    "decode": (("x", (1, 1, "hidden"), "activation"),),
    "batch_prefill": (("x", (1, "n", "hidden"), "activation"), ("logit_positions", ("b",), "int32")),
    "batch_decode": (("x", ("b", 1, "hidden"), "activation"),),
    "batch_verify": (("x", (1, "n", "hidden"), "activation"),),
}


def entry_points(decoder: Decoder, names: Collection[str]) -> nn_spec.ModuleSpec:
    """Those of `ENTRY_POINTS` that `names` has, for `decoder`; each takes the parameters packed, last."""

    def tensor(shape: tuple[int | str, ...], dtype: str) -> nn_spec.Tensor:
        sizes = [decoder.spec.hidden_size if size == "hidden" else size for size in shape]
        return nn_spec.Tensor(sizes, decoder.activation if dtype == "activation" else dtype)

    methods = {}
    for name in names:
        arguments = ENTRY_POINTS[name]
        method: dict[str, object] = {word: tensor(shape, dtype) for word, shape, dtype in arguments}
        if name != "embed":
            method["kv"] = nn_spec.Object(object_type=PagedKVCache)
        methods[name] = {**method, "$": {"param_mode": "packed", "effect_mode": "none"}}
    return nn_spec.ModuleSpec.from_raw(methods, decoder)
