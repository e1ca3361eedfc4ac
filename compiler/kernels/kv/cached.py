"""What the runtime says of its pages: a kernel under construction goes in, slots and positions of tokens come out."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape


def page_argument(kernel: Kernel, shape: AttentionShape) -> tirx.Buffer:
    """The pages of one layer, as the runtime sees them: `pages.py` says what is where."""
    return kernel.tensor("pages", (size("num_pages"), 2, shape.kv_heads, PAGE_SIZE, shape.head_dim), shape.dtype)


class CachedPages:
    """The pages of each sequence, in order, and which of their tokens the runtime offers.

    The pages of sequence b are `ids[indptr[b]]` up to `ids[indptr[b + 1]]`. A key slot is a place in them, counted from
    the first page on; a position is one in the sequence. `q_positions` are those of the `n` queries.
    """

    def __init__(self, kernel: Kernel, shape: AttentionShape, sliding: bool, batch: tirx.Expr, n: tirx.Expr) -> None:
        self.shape, self.sliding = shape, sliding
        self.num_ids = size("num_ids")
        self.pages = page_argument(kernel, shape)
        self.indptr = kernel.indices("page_indptr", (batch + 1,))
        self.ids = kernel.indices("page_ids", (self.num_ids,))
        # Per sequence: the used slots of the last page; for sliding layers, whose kernels get only the last pages of
        # the window, also the first slot that is in the window, and a sink size that is always 0 here.
        self.length_info = kernel.indices("length_info", (3, batch) if sliding else (batch,))
        self.k_start = kernel.indices("k_start", (batch,))
        self.q_positions = kernel.indices("q_positions", (n,))

    def keys(self, b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
        """Where, in the flattened pages, the keys of a KV head start in page number p of sequence b."""
        return self.ids[self.indptr[b] + p] * self.shape.page_elements + head * self.shape.head_elements

    def offset(self, b: tirx.Expr) -> tirx.Expr:
        """The slot of the first token that the runtime offers."""
        return self.length_info[1, b] if self.sliding else T.int32(0)

    def length(self, b: tirx.Expr) -> tirx.Expr:
        """How many tokens the runtime offers."""
        num_pages = self.indptr[b + 1] - self.indptr[b]
        used = self.length_info[0, b] if self.sliding else self.length_info[b]
        return T.if_then_else(num_pages == 0, 0, (num_pages - 1) * PAGE_SIZE + used - self.offset(b))

    def before_window(self, b: tirx.Expr, length: tirx.Expr) -> tirx.Expr:
        """How many of the `length` offered tokens the newest one, which sequence b decodes, no longer sees.

        k_start = max(0, end - window). Where that is 0, either the first offered token is at 0, or the window reaches
        back to 0 and a position that is too small does no harm.
        """
        first = T.if_then_else(self.k_start[b] > 0, self.k_start[b] + self.shape.window - length, 0)
        return T.max(self.q_positions[b] + 1 - self.shape.window - first, 0)

    def first_position(
        self, b: tirx.Expr, length: tirx.Expr, next_position: tirx.Expr, is_first: tirx.Expr
    ) -> tirx.Expr:
        """The position of the first offered token, where a chunk at `next_position` is prefilled.

        To a sliding layer the runtime says only k_start = max(0, end - window). If that is 0, the tokens are the first
        of the sequence (`is_first`), or they are the last before the chunk.
        """
        k_start = self.k_start[b]
        if not self.sliding:
            return k_start
        otherwise = T.if_then_else(is_first, 0, next_position - length)
        return T.if_then_else(k_start > 0, k_start + self.shape.window - length, otherwise)
