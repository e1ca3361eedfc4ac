"""Compare the CPU's paged KV cache with numpy, in every way in which a sequence can grow, fork and shrink."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend import nn
from tvm.runtime import ShapeTuple
from tvm.target import codegen

from argosy.compiler.cache import ArgosyPagedKVCache, attention_shape
from argosy.compiler.kernels.cpu.attention.cache import CPU_KERNELS
from argosy.model_defs.components.attention import AttentionSpec
from argosy.model_defs.components.dense import GatedSpec
from argosy.model_defs.components.norm import NormSpec
from argosy.model_defs.networks.decoder_spec import DecoderSpec, LayerSpec
from argosy.support.errors import UnsupportedModelError

TARGET = tvm.target.Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu(), "opt-level": 1})
# Processors whose code runs here, too: 16 vector registers with and without half precision and fused multiply-add.
OLDER = {"avx2": "haswell", "portable": "x86-64"}
TOLERANCE = {"float32": 1e-11, "float16": 3e-7}  # normalised mean square error; the inputs are already rounded


def decoder_spec(
    heads: int = 6,
    kv_heads: int = 2,
    head_dim: int = 16,
    windows: Sequence[int | None] = (None, None),
    softcap: float | None = None,
) -> DecoderSpec:
    """A decoder in which only the attention matters."""
    attention = AttentionSpec(heads, kv_heads, head_dim, scale=head_dim**-0.5, softcap=softcap)
    return DecoderSpec(
        model_type="probe",
        vocab_size=8,
        hidden_size=8,
        layers=tuple(LayerSpec(replace(attention, window=window), GatedSpec(8, "silu")) for window in windows),
        topology="pre_norm",
        norm=NormSpec("rms", 1e-6),
        context_window=4096,
    )


class Probe(nn.Module):
    """A module that creates a cache, and runs the attention of each layer on given projections."""

    def __init__(self, spec: DecoderSpec, dtype: str, target: tvm.target.Target) -> None:
        self.spec = spec
        self.dtype = dtype
        self.target = target

    def create(self, max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window):
        return ArgosyPagedKVCache.create(
            self.spec.attention,
            [max_batch_size, max_total_seq_len, prefill_chunk_size, page_size, support_sliding_window],
            dtype=self.dtype,
            target=self.target,
            kernels=CPU_KERNELS,
        )

    def attend(self, qkv: nn.Tensor, kv: ArgosyPagedKVCache):
        """Attend: qkv (layers, n, heads + 2 kv_heads, d) -> (layers, n, heads, d)."""
        a = self.spec.attention[0]
        _, n, rows, d = qkv.shape
        outputs = []
        layers = len(self.spec.layers)
        for layer, part in enumerate(nn.op.split(qkv, layers, axis=0) if layers > 1 else [qkv]):
            out = kv.attention_with_fused_qkv(layer, nn.op.reshape(part, (1, n, rows, d)), a.heads, a.scale)
            outputs.append(out)
        return nn.op.concat(outputs, dim=0), kv


_LIBRARIES: dict[tuple[DecoderSpec, str, str], relax.VirtualMachine] = {}


def library(spec: DecoderSpec, dtype: str = "float32", target: tvm.target.Target = TARGET) -> relax.VirtualMachine:
    """Compile the probe, once for each spec, dtype and target."""
    key = spec, dtype, str(target)
    if key not in _LIBRARIES:
        a = spec.attention[0]
        shape = [len(spec.layers), "n", a.heads + 2 * a.kv_heads, a.head_dim]
        plain = {"param_mode": "none", "effect_mode": "none"}
        sizes = ("max_batch_size", "max_total_seq_len", "prefill_chunk_size", "page_size", "support_sliding_window")
        module, _ = Probe(spec, dtype, target).export_tvm(
            {
                "create": {**dict.fromkeys(sizes, int), "$": plain},
                "attend": {
                    "qkv": nn.spec.Tensor(shape, dtype),
                    "kv": nn.spec.Object(object_type=ArgosyPagedKVCache),
                    "$": plain,
                },
            }
        )
        with target:
            executable = relax.build(module, target)
        _LIBRARIES[key] = relax.VirtualMachine(executable, tvm.cpu())
    return _LIBRARIES[key]


def runtime(name: str):
    """Return a cache function of the runtime, by its short name."""
    return tvm.get_global_func(f"vm.builtin.{name}")


def reference_attention(spec: DecoderSpec, layer: int, q, k, v, positions, visible) -> np.ndarray:
    """Attend in float64: q (n, h, d), k and v (m, h_kv, d), visible (n, m) -> (n, h, d)."""
    a = spec.attention[0]
    k = np.repeat(k, a.heads // a.kv_heads, axis=1).astype(np.float64)
    v = np.repeat(v, a.heads // a.kv_heads, axis=1).astype(np.float64)
    scores = np.einsum("nhd,mhd->hnm", q.astype(np.float64), k) * a.scale
    if a.softcap is not None:
        scores = a.softcap * np.tanh(scores / a.softcap)
    window = spec.attention[layer].window
    if window is not None:
        visible = visible & (positions[0][:, None] - positions[1][None, :] < window)
    scores = np.where(visible[None], scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hnm,mhd->nhd", weights / weights.sum(-1, keepdims=True), v)


def nmse(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the normalised mean square error."""
    return float(np.sum((actual - expected) ** 2) / np.sum(expected**2))


@dataclass
class Driver:
    """A cache and its shadow: the keys and values of every layer that it should hold for each sequence."""

    spec: DecoderSpec
    dtype: str = "float32"
    target: tvm.target.Target = TARGET
    chunk: int = 128
    capacity: int = 2048
    batch: int = 8
    shadow: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    pending: dict[int, list[int]] = field(default_factory=dict)  # parents of the nodes that are not committed yet

    def __post_init__(self) -> None:
        self.vm = library(self.spec, self.dtype, self.target)
        self.rng = np.random.default_rng(0)
        self.cache = self.vm["create"](*(ShapeTuple([n]) for n in (self.batch, self.capacity, self.chunk, 16, 0)))

    def add(self, *sequences: int) -> None:
        a = self.spec.attention[0]
        for sequence in sequences:
            runtime("kv_state_add_sequence")(self.cache, sequence)
            empty = np.zeros((len(self.spec.layers), 0, a.kv_heads, a.head_dim), self.dtype)
            self.shadow[sequence] = (empty, empty)

    def remove(self, sequence: int) -> None:
        runtime("kv_state_remove_sequence")(self.cache, sequence)
        del self.shadow[sequence]

    def fork(self, parent: int, child: int, position: int = -1) -> None:
        runtime("kv_state_fork_sequence")(self.cache, parent, child, position)
        k, v = self.shadow[parent]
        end = k.shape[1] if position == -1 else position
        self.shadow[child] = (k[:, :end], v[:, :end])

    def pop(self, sequence: int, count: int) -> None:
        runtime("kv_state_popn")(self.cache, sequence, count)
        k, v = self.shadow[sequence]
        self.shadow[sequence] = (k[:, : k.shape[1] - count], v[:, : v.shape[1] - count])

    def step(self, lengths: dict[int, int]) -> None:
        """Append tokens to each sequence, and compare the attention of all layers with the reference."""
        self.forward(lengths, None)

    def tree(self, trees: dict[int, list[int]]) -> None:
        """Step with a token tree for each sequence, given as the parent of each node, -1 for the root."""
        self.forward({sequence: len(parents) for sequence, parents in trees.items()}, trees)

    def forward(self, lengths: dict[int, int], trees: dict[int, list[int]] | None) -> None:
        a = self.spec.attention[0]
        total, layers = sum(lengths.values()), len(self.spec.layers)
        qkv = self.rng.standard_normal((layers, total, a.heads + 2 * a.kv_heads, a.head_dim), dtype="float32")
        qkv[:, :, : a.heads] *= 3  # sharper than uniform
        qkv = qkv.astype(self.dtype)
        shape = ShapeTuple(list(lengths)), ShapeTuple(list(lengths.values()))
        if trees is not None:
            shape = (*shape, ShapeTuple([parent for parents in trees.values() for parent in parents]))
        runtime("kv_state_begin_forward")(self.cache, *shape)
        out, self.cache = self.vm["attend"](tvm.runtime.tensor(qkv), self.cache)
        runtime("kv_state_end_forward")(self.cache)
        out = out.numpy().astype("float32")
        assert np.isfinite(out).all()
        start = 0
        for sequence, length in lengths.items():
            mine = qkv[:, start : start + length]
            if trees is None:
                parents = list(range(-1, length - 1))
            else:
                parents = self.pending[sequence] = [*self.pending.get(sequence, []), *trees[sequence]]
            expected = self.expect(sequence, mine, parents)
            error = nmse(out[:, start : start + length], expected)
            assert error < TOLERANCE[self.dtype], f"sequence {sequence} of {lengths}: {error}"
            start += length

    def commit(self, leaves: dict[int, int]) -> None:
        """Keep the path to one node of each tree, or nothing for -1; for all sequences of the last step, in order."""
        runtime("attention_kv_cache_commit_accepted_token_tree_nodes")(
            self.cache, ShapeTuple(list(leaves)), ShapeTuple(list(leaves.values()))
        )
        for sequence, leaf in leaves.items():
            parents = self.pending.pop(sequence)
            past = self.shadow[sequence][0].shape[1] - len(parents)
            path = []
            while leaf != -1:
                path.insert(0, past + leaf)
                leaf = parents[leaf]
            kept = [*range(past), *path]
            k, v = self.shadow[sequence]
            self.shadow[sequence] = (k[:, kept], v[:, kept])

    def expect(self, sequence: int, qkv: np.ndarray, parents: list[int]) -> np.ndarray:
        """Attend from new tokens (layers, n, rows, d), the last of `parents`, and add them to the shadow."""
        a = self.spec.attention[0]
        q, k_new, v_new = np.split(qkv, [a.heads, a.heads + a.kv_heads], axis=2)
        new = qkv.shape[1]
        past = self.shadow[sequence][0].shape[1] + new - len(parents)
        k, v = (np.concatenate(pair, axis=1) for pair in zip(self.shadow[sequence], (k_new, v_new), strict=True))
        self.shadow[sequence] = (k, v)
        n = len(parents)
        depth, ancestor = np.zeros(n, int), np.eye(n, dtype=bool)
        for node, parent in enumerate(parents):
            if parent >= 0:
                depth[node] = depth[parent] + 1
                ancestor[node] |= ancestor[parent]
        visible = np.concatenate([np.ones((n, past), bool), ancestor], axis=1)
        visible = visible[n - new :]
        positions = past + depth[n - new :], np.concatenate([np.arange(past), past + depth])
        return np.stack(
            [
                reference_attention(self.spec, layer, q[layer], k[layer], v[layer], positions, visible)
                for layer in range(len(self.spec.layers))
            ]
        )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_prefill_then_decode(dtype: str) -> None:
    driver = Driver(decoder_spec(), dtype)
    driver.add(0, 1, 2)
    driver.step({0: 5, 1: 33, 2: 16})
    for _ in range(20):
        driver.step({0: 1, 1: 1, 2: 1})
    driver.step({1: 1})
    driver.step({2: 40, 0: 1})
    driver.step({1: 64})
    for _ in range(3):
        driver.step({2: 1, 0: 1})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_turns_and_forks(dtype: str) -> None:
    driver = Driver(decoder_spec(), dtype)
    driver.add(0)
    driver.step({0: 41})
    driver.step({0: 1})
    driver.fork(0, 1)  # inside a page
    driver.fork(0, 2, 20)
    driver.step({0: 7, 1: 19, 2: 1})
    driver.step({2: 1, 1: 1, 0: 1})
    driver.fork(1, 3, 48)  # at a page boundary, of a sequence that has two blocks
    driver.step({0: 1, 1: 1, 2: 1, 3: 1})
    driver.step({3: 40, 0: 3})
    driver.fork(3, 4, 80)  # three blocks deep
    driver.step({4: 5, 3: 1})
    driver.step({4: 1, 3: 1, 1: 1})
    driver.remove(1)
    driver.step({4: 1, 3: 30})
    driver.add(1)
    driver.step({1: 9, 3: 1})


def test_pop() -> None:
    driver = Driver(decoder_spec())
    driver.add(0, 1)
    driver.step({0: 50, 1: 33})
    driver.pop(0, 3)
    driver.step({0: 1, 1: 1})
    driver.pop(1, 18)  # to a page boundary
    driver.pop(0, 40)
    driver.step({0: 30, 1: 20})
    driver.fork(0, 2)
    driver.pop(2, 30)  # into the part it shares
    driver.step({2: 5, 0: 1})
    driver.step({2: 1, 0: 1, 1: 1})


def test_clear() -> None:
    driver = Driver(decoder_spec())
    driver.add(0)
    driver.step({0: 30})
    runtime("kv_state_clear")(driver.cache)
    driver.add(0)
    driver.step({0: 30})
    driver.step({0: 1})


def exercise(driver: Driver) -> None:
    """Chunks of more and of fewer rows than a tile attend to themselves and to the cache; so do single tokens."""
    driver.add(0, 1)
    driver.step({0: 35, 1: 2})
    driver.step({0: 18, 1: 1})
    driver.step({0: 100})
    driver.step({0: 1, 1: 1})


@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "softcap", "dtype"),
    [
        (4, 4, 8, None, "float32"),
        (16, 1, 32, 2.0, "float16"),
        (9, 3, 64, None, "float16"),
        (14, 2, 64, None, "float32"),
        (14, 2, 80, 50.0, "float16"),
        (2, 2, 96, None, "float16"),
        (8, 2, 96, None, "float32"),
        (12, 1, 128, None, "float16"),
        (16, 8, 128, None, "float32"),
        (5, 1, 256, None, "float32"),
        (16, 1, 256, None, "float16"),
    ],
)
def test_shapes(heads: int, kv_heads: int, head_dim: int, softcap: float | None, dtype: str) -> None:
    exercise(Driver(decoder_spec(heads, kv_heads, head_dim, windows=(None,), softcap=softcap), dtype))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the older processors are of x86")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("cpu", OLDER)
def test_older_processors(cpu: str, dtype: str) -> None:
    target = tvm.target.Target({"kind": "llvm", "mcpu": OLDER[cpu], "opt-level": 1})
    exercise(Driver(decoder_spec(9, 3, 64, windows=(None,)), dtype, target))


def test_a_chunk_of_many_tiles() -> None:
    """With more rows than one work item takes, tiles share copied keys; the keys fill several blocks."""
    driver = Driver(decoder_spec(9, 3, 64, windows=(None,)), chunk=512)
    driver.add(0, 1)
    driver.step({0: 300, 1: 150})
    driver.step({0: 400, 1: 1})
    for _ in range(2):
        driver.step({0: 1, 1: 1})


@pytest.mark.parametrize("windows", [(20, 20), (None, 48), (5, None)])
def test_sliding(windows: tuple[int | None, ...]) -> None:
    driver = Driver(decoder_spec(windows=windows))
    window = max(w for w in windows if w is not None)
    driver.add(0, 1, 2)
    driver.step({0: window, 1: 3, 2: 1})
    for _ in range(4):
        driver.step({0: window, 1: window - 1, 2: 1})
    for _ in range(window + 20):
        driver.step({1: 1, 2: 1})
    driver.step({0: 3, 1: window, 2: 2})
    driver.pop(0, window + 3)
    driver.step({0: window})
    driver.pop(1, 5)
    driver.step({0: 1, 1: 1, 2: 1})


@pytest.mark.parametrize("windows", [(20, 20), (None, 48)])
def test_sliding_forks(windows: tuple[int | None, ...]) -> None:
    driver = Driver(decoder_spec(windows=windows))
    window = windows[1] or 0
    driver.add(0)
    driver.step({0: 16})
    driver.fork(0, 1)
    driver.step({0: 16})
    driver.step({0: window, 1: window})  # passes the window in one chunk, from a shared page on
    driver.step({1: window - 1})
    driver.fork(1, 2, 40)
    driver.fork(1, 3, 30)
    driver.step({1: 1, 2: 1, 3: 1, 0: 1})
    driver.step({1: window, 2: window, 3: 3})
    for _ in range(window):
        driver.step({1: 1, 2: 1, 3: 1})
    driver.fork(3, 4, 48)
    driver.step({4: window})
    driver.step({4: 1, 3: 1, 0: 1})


def test_shared_prefix_of_many() -> None:
    # With 40 sequences on one prefix the runtime gives all decode queries to the prefill kernel at once.
    for windows in ((None, None), (20, 20)):
        driver = Driver(decoder_spec(windows=windows), batch=48)
        driver.add(0)
        for _ in range(4):
            driver.step({0: 16})
        for child in range(1, 40):
            driver.fork(0, child)
        driver.step(dict.fromkeys(range(40), 1))
        driver.step(dict.fromkeys(range(40), 1))
        driver.step({1: 20, 2: 1, 7: 13, 3: 1})


def test_long_chunk_is_refused() -> None:
    driver = Driver(decoder_spec(windows=(None, 20)))
    driver.add(0)
    with pytest.raises(Exception, match="longer than the sliding window"):
        driver.step({0: 21})


TREE = [-1, 0, 0, 1, 1, 2, 5, 5]
CHAIN = [-1, 0, 1]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_trees(dtype: str) -> None:
    driver = Driver(decoder_spec(), dtype)
    driver.add(0, 1, 2)
    driver.step({0: 30, 1: 5, 2: 16})
    driver.tree({1: CHAIN, 2: [-1], 0: TREE})
    driver.commit({1: 2, 2: -1, 0: 7})
    driver.step({0: 1, 1: 1, 2: 1})
    driver.tree({1: CHAIN, 0: CHAIN})  # all chains: no tree for the runtime
    driver.commit({1: 0, 0: 2})
    driver.tree({2: [-1, -1, 0, 1], 0: [-1] * 20})  # several roots, and more than a page
    driver.commit({2: 3, 0: 17})
    driver.step({0: 1, 1: 1, 2: 1})


def test_growing_tree() -> None:
    # The runtime cannot commit a tree that has grown, so this serves drafts that are then removed.
    driver = Driver(decoder_spec())
    driver.add(0, 1, 3)
    driver.step({0: 30, 1: 5, 3: 20})
    driver.fork(3, 2)
    for trees in ({0: [-1, 0, 0], 1: [-1, 0, 1]}, {0: [1, 2, 2], 1: [2, 1, 0]}, {0: [4], 1: [5]}):
        driver.tree(trees)
    driver.tree({1: [6, 6, 5, 4, 7, 8, 8, 8]})
    driver.tree({2: [-1, 0, 0]})
    driver.tree({2: [1, 1, 0, 0, 3]})
    driver.tree({3: CHAIN})
    driver.tree({3: [2, 3, 4]})  # still a chain: the runtime calls the prefill kernel, with keys after the queries
    driver.remove(0)
    driver.remove(1)
    driver.remove(2)
    driver.remove(3)


def test_tree_in_a_fork() -> None:
    driver = Driver(decoder_spec(windows=(None, 48)))
    driver.add(0)
    driver.step({0: 40})
    driver.fork(0, 1)
    driver.tree({0: TREE, 1: [-1, 0, 0]})
    driver.commit({0: 6, 1: 2})
    driver.step({0: 1, 1: 1})
    driver.step({0: 12, 1: 13})


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_read_back(dtype: str) -> None:
    driver = Driver(decoder_spec(), dtype)
    driver.add(0)
    driver.step({0: 30})
    driver.fork(0, 1, 21)
    driver.step({1: 9})
    k, v = driver.shadow[1]
    got = [tvm.runtime.tensor(np.zeros_like(k[:, 3:])) for _ in range(2)]
    tvm.get_global_func("vm.builtin.attention_kv_cache_debug_get_kv")(driver.cache, 1, 3, 30, *got)
    np.testing.assert_array_equal(got[0].numpy(), k[:, 3:])
    np.testing.assert_array_equal(got[1].numpy(), v[:, 3:])


@pytest.mark.parametrize(("page_size", "sliding", "refusal"), [(16, 1, "support_sliding_window"), (32, 0, "page_size")])
def test_refuses_other_configurations(page_size: int, sliding: int, refusal: str) -> None:
    vm = library(decoder_spec())
    with pytest.raises(Exception, match=refusal):
        vm["create"](*(ShapeTuple([n]) for n in (8, 2048, 128, page_size, sliding)))


def test_windows_of_several_sizes_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"\[20, 40\]"):
        attention_shape(decoder_spec(windows=(20, 40)).attention, "float32", TARGET)


@pytest.mark.parametrize("change", [{"heads": 4}, {"kv_heads": 3}, {"head_dim": 32}, {"softcap": 5.0}])
def test_layers_whose_heads_differ_are_refused(change: dict[str, int | float]) -> None:
    first, second = decoder_spec().attention
    assert attention_shape((first, second), "float32", TARGET).heads == 6
    with pytest.raises(UnsupportedModelError, match="differ in their heads"):
        attention_shape((first, replace(second, **change)), "float32", TARGET)
