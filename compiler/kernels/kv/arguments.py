"""Declare the arguments with which TVM's paged KV cache calls its kernels.

The cache calls the kernels of every device alike, so all of them declare their arguments here, in its order. Arguments
that no kernel needs are declared and dropped, such as the numbers of a rotation that the model performs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tvm.tirx import Buffer, Expr, Var
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.kv.cached import CachedPages, page_argument
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape


class DecodeArguments:
    """Arguments of decoding: one query q (batch, heads, d) per sequence, against the cache."""

    def __init__(self, kernel: Kernel, shape: AttentionShape, sliding: bool) -> None:
        self.batch = size("batch")
        self.q = _heads(kernel, shape, "q", self.batch, shape.heads)
        self.cache = CachedPages(kernel, shape, sliding, self.batch, self.batch)
        self.output, self.lse = _result(kernel, shape, self.batch)
        self.scale = _scale(kernel)


class PagedArguments:
    """Arguments of prefill against the cache: queries q (n, heads, d), one sequence after the other."""

    def __init__(self, kernel: Kernel, shape: AttentionShape, sliding: bool) -> None:
        self.n, self.batch = size("n"), size("batch")
        self.q, self.q_indptr = _queries(kernel, shape, self.n, self.batch + 1)
        self.cache = CachedPages(kernel, shape, sliding, self.batch, self.n)
        self.output, self.lse = _result(kernel, shape, self.n)
        kernel.scalar("causal", "int32")
        self.scale = _scale(kernel)

    def is_first_block(self) -> Expr:
        """Return whether this call is about the first blocks of the sequences (docs/notes/kv_cache.md: up to two).

        Only the place of the arguments shows it: the runtime lays its index arrays out in one buffer, first the n query
        positions, rounded up to 4 elements, then the q_indptr of the first blocks.
        """
        return self.q_indptr.elem_offset == (self.n + 3) // 4 * 4

    def visible_slots(self, b: Expr, offset: Expr, length: Expr, is_first: Expr) -> Callable[[Expr], tuple[Expr, Expr]]:
        """Return a function from a token of sequence b to the first key slot it sees, and the one after the last.

        A key is seen if its position in the sequence is not after the query and, in a sliding layer, less than the
        window before it. Neither the flag `causal` nor "all of the cache" would be right: see docs/notes/kv_cache.md.
        """
        cache = self.cache
        next_position = cache.q_positions[self.q_indptr[b]]
        first = T.bind(cache.first_position(b, length, next_position, is_first))

        def by_token(token: Expr) -> tuple[Expr, Expr]:
            end = T.bind(cache.q_positions[token] + 1 - first)  # tokens of the cache up to the query
            low = T.max(end - cache.shape.window, 0) if cache.sliding else 0
            return offset + low, offset + T.min(length, end)

        return by_token


class RaggedArguments:
    """Arguments of prefill inside a chunk: q (n, heads, d) and k, v (n_kv, kv_heads, d), sequence after sequence."""

    def __init__(self, kernel: Kernel, shape: AttentionShape) -> None:
        self.n, self.n_kv, self.batch = size("n"), size("n_kv"), size("batch")
        self.q, self.q_indptr = _queries(kernel, shape, self.n, self.batch + 1)
        self.k, self.v, self.kv_indptr = _new_keys(kernel, shape, self.n_kv, self.batch + 1)
        self.q_positions = kernel.indices("q_positions", (self.n,))
        kernel.indices("k_start", (self.batch,))
        self.output, self.lse = _result(kernel, shape, self.n)
        self.causal = kernel.scalar("causal", "int32")
        self.scale = _scale(kernel)

    def visible_keys(self, b: Expr, kv_len: Expr) -> Callable[[Expr], Expr]:
        """Return a function from a token of sequence b to how many of the sequence's `kv_len` new keys it sees."""
        before = T.bind(kv_len - self.q_indptr[b + 1] + 1)  # a query sees itself and what comes before it
        return lambda token: T.if_then_else(self.causal != 0, token + before, kv_len)


class PagedTreeArguments:
    """Arguments like `PagedArguments`, for a full layer, with the nodes of token trees."""

    def __init__(self, kernel: Kernel, shape: AttentionShape) -> None:
        self.n, self.batch = size("n"), size("batch")
        self.q, self.q_indptr = _queries(kernel, shape, self.n, self.batch + 1)
        self.cache = CachedPages(kernel, shape, False, self.batch, self.n)
        self.output, self.lse = _result(kernel, shape, self.n)
        self.scale = _scale(kernel)
        self.node_indptr, self.nodes = _nodes(kernel, self.batch + 1)


class RaggedTreeArguments:
    """Arguments like `RaggedArguments`, with the nodes of token trees."""

    def __init__(self, kernel: Kernel, shape: AttentionShape) -> None:
        self.n, self.n_kv = size("n"), size("n_kv")
        ends = size("batch_plus_1")  # a size of its own: no argument has the size `batch`, from which it could follow
        self.batch = ends - 1
        self.q, self.q_indptr = _queries(kernel, shape, self.n, ends)
        self.k, self.v, self.kv_indptr = _new_keys(kernel, shape, self.n_kv, ends)
        self.q_positions = kernel.indices("q_positions", (self.n,))
        self.node_indptr, self.nodes = _nodes(kernel, ends)
        self.output, self.lse = _result(kernel, shape, self.n)
        self.scale = _scale(kernel)


def merge_state(kernel: Kernel, shape: AttentionShape) -> tuple[Var, Buffer, Buffer, Buffer, Buffer]:
    """Declare n; v (n, heads, d) and its log2 weight s (n, heads), changed in place; v_other and s_other likewise."""
    n = size("n")
    return n, *_result(kernel, shape, n, "v", "s"), *_result(kernel, shape, n, "v_other", "s_other")


def append(kernel: Kernel, shape: AttentionShape) -> tuple[Var, Buffer, Buffer, Buffer, Buffer]:
    """Declare n; the pages; k and v (n, kv_heads, d); the slots (n) in which to keep them, -1 for none."""
    n, pages = size("n"), page_argument(kernel, shape)
    k, v = (_heads(kernel, shape, name, n, shape.kv_heads) for name in "kv")
    return n, pages, k, v, kernel.indices("slots", (n,))


def split_qkv(kernel: Kernel, shape: AttentionShape) -> tuple[Var, Buffer, Buffer, Buffer, Buffer]:
    """Declare n; qkv (n, heads + 2 kv_heads, d); q, k and v to be written.

    The cache calls this kernel to rotate as well, hence the positions and the flag, which is 0 with RopeMode.NONE.
    """
    n = size("n")
    qkv = _heads(kernel, shape, "qkv", n, shape.heads + 2 * shape.kv_heads)
    kernel.indices("positions", (n,))
    q = _heads(kernel, shape, "q", n, shape.heads)
    k, v = (_heads(kernel, shape, name, n, shape.kv_heads) for name in "kv")
    kernel.scalar("apply_rope", "int64")
    return n, qkv, q, k, v


def copy_page(kernel: Kernel, shape: AttentionShape) -> tuple[Buffer, Expr, Expr]:
    """Declare the pages, the number of the page to copy and of its copy. No kernel needs the used length."""
    pages = page_argument(kernel, shape)
    source, copy = (T.Cast("int32", kernel.scalar(name, "int64")) for name in ("source", "target"))
    kernel.scalar("length", "int64")
    return pages, source, copy


def compact(kernel: Kernel, shape: AttentionShape) -> tuple[Buffer, Buffer, Buffer, Var]:
    """Declare the pages; indptr (batch + 1) and moves (2, n), from slot to slot; the batch."""
    n, ends = size("n"), size("batch_plus_1")
    pages, indptr = page_argument(kernel, shape), kernel.indices("indptr", (ends,))
    return pages, indptr, kernel.indices("moves", (2, n)), kernel.scalar("batch", "int32")


def read_back(
    kernel: Kernel, shape: AttentionShape, num_layers: int
) -> tuple[Var, Buffer, Buffer, Buffer, Buffer, Expr]:
    """Declare n; the pages; the slots (n) to read; k and v (num_layers, n, kv_heads, d), and the layer to write."""
    n, pages = size("n"), page_argument(kernel, shape)
    slots = kernel.indices("slots", (n,))
    k, v = (kernel.tensor(name, (num_layers, n, shape.kv_heads, shape.head_dim), shape.dtype) for name in "kv")
    return n, pages, slots, k, v, T.Cast("int32", kernel.scalar("layer", "int64"))


@contextmanager
def checked_empty(kernel: Kernel, shape: AttentionShape) -> Iterator[Buffer]:
    """Check that the kernels can serve a cache with these settings; yield a scalar of the cache's dtype to write."""
    page_size = kernel.scalar("page_size", "int64")
    sliding = kernel.scalar("support_sliding_window", "int64")
    empty = kernel.tensor("empty", (), shape.dtype)
    with (
        T.Assert(page_size == PAGE_SIZE, f"page_size must be {PAGE_SIZE}"),
        T.Assert(sliding == 0, "support_sliding_window must be 0: layers with a window slide by themselves"),
    ):
        yield empty


def _heads(kernel: Kernel, shape: AttentionShape, name: str, n: Expr, heads: int) -> Buffer:
    """Declare a vector for each head of each token: (n, heads, d)."""
    return kernel.tensor(name, (n, heads, shape.head_dim), shape.dtype)


def _queries(kernel: Kernel, shape: AttentionShape, n: Expr, ends: Expr) -> tuple[Buffer, Buffer]:
    """Declare q (n, heads, d), and where the queries of each sequence start and end in it."""
    return _heads(kernel, shape, "q", n, shape.heads), kernel.indices("q_indptr", (ends,))


def _new_keys(kernel: Kernel, shape: AttentionShape, n_kv: Expr, ends: Expr) -> tuple[Buffer, Buffer, Buffer]:
    """Declare k and v (n_kv, kv_heads, d), and where those of each sequence start and end."""
    k, v = (_heads(kernel, shape, name, n_kv, shape.kv_heads) for name in "kv")
    return k, v, kernel.indices("kv_indptr", (ends,))


def _nodes(kernel: Kernel, ends: Expr) -> tuple[Buffer, Buffer]:
    """Declare where the nodes of each sequence's tree start and end, and each node's number and end of its subtree."""
    return kernel.indices("node_indptr", (ends,)), kernel.indices("nodes", (size("num_nodes"), 2))


def _result(
    kernel: Kernel, shape: AttentionShape, n: Expr, output: str = "output", lse: str = "lse"
) -> tuple[Buffer, Buffer]:
    """Declare the outputs of attention: a vector for each head (n, heads, d), and its log2 weight (n, heads)."""
    return _heads(kernel, shape, output, n, shape.heads), kernel.tensor(lse, (n, shape.heads), "float32")


def _scale(kernel: Kernel) -> Var:
    """Declare the factor of the scores, after three numbers of a rotation that no kernel uses."""
    kernel.scalar("rotary_mode", "int32")
    kernel.scalar("rope_scale", "float32")
    kernel.scalar("rope_theta", "float32")
    return kernel.scalar("sm_scale", "float32")
