"""Declare the arguments that describe cached pages, and compute slots and positions of tokens from them."""

from __future__ import annotations

from tvm import tirx
from tvm.tirx.script.builder import ir as T

from argosy.compiler.kernels.builder import Kernel, size
from argosy.compiler.kernels.kv.shape import PAGE_SIZE, AttentionShape


def page_argument(kernel: Kernel, shape: AttentionShape) -> tirx.Buffer:
    """Declare the pages of one layer in the runtime's shape; the kernels' `pages.py` defines the layout inside."""
    return kernel.tensor("pages", (size("num_pages"), 2, shape.kv_heads, PAGE_SIZE, shape.head_dim), shape.dtype)


class CachedPages:
    """The pages of each sequence, in order, and the tokens in them that the runtime offers.

    The pages of sequence b are `ids[indptr[b]]` up to `ids[indptr[b + 1]]`. A key slot is a place in these pages,
    counted from the first page on; a position is a place in the sequence. `q_positions` are those of the `n` queries.
    """

    def __init__(self, kernel: Kernel, shape: AttentionShape, sliding: bool, batch: tirx.Expr, n: tirx.Expr) -> None:
        self.shape, self.sliding = shape, sliding
        self.num_ids = size("num_ids")
        self.pages = page_argument(kernel, shape)
        self.indptr = kernel.indices("page_indptr", (batch + 1,))
        self.ids = kernel.indices("page_ids", (self.num_ids,))
        # Per sequence: the used slots of the last page. Kernels of sliding layers get only the last pages of the
        # window, and also the first slot that is in the window, and a sink size that is always 0 here.
        self.length_info = kernel.indices("length_info", (3, batch) if sliding else (batch,))
        self.k_start = kernel.indices("k_start", (batch,))
        self.q_positions = kernel.indices("q_positions", (n,))

    def keys(self, b: tirx.Expr, head: tirx.Expr, p: tirx.Expr) -> tirx.Expr:
        """Return the place, in the flattened pages, of the keys of a KV head in page number p of sequence b."""
        return self.ids[self.indptr[b] + p] * self.shape.page_elements + head * self.shape.head_elements

    def offset(self, b: tirx.Expr) -> tirx.Expr:
        """Return the slot of the first token that the runtime offers."""
        return self.length_info[1, b] if self.sliding else T.int32(0)

    def length(self, b: tirx.Expr) -> tirx.Expr:
        """Return the number of tokens that the runtime offers."""
        num_pages = self.indptr[b + 1] - self.indptr[b]
        used = self.length_info[0, b] if self.sliding else self.length_info[b]
        return T.if_then_else(num_pages == 0, 0, (num_pages - 1) * PAGE_SIZE + used - self.offset(b))

    def before_window(self, b: tirx.Expr, length: tirx.Expr) -> tirx.Expr:
        """Return how many of the `length` offered tokens the newest one, which sequence b decodes, no longer sees.

        k_start = max(0, end - window). If that is 0, either the first offered token is at 0, or the window reaches
        back to 0 and a position that is too small does no harm.
        """
        first = T.if_then_else(self.k_start[b] > 0, self.k_start[b] + self.shape.window - length, 0)
        return T.max(self.q_positions[b] + 1 - self.shape.window - first, 0)

    def first_position(
        self, b: tirx.Expr, length: tirx.Expr, next_position: tirx.Expr, is_first: tirx.Expr
    ) -> tirx.Expr:
        """Return the position of the first offered token when a chunk at `next_position` is prefilled.

        A sliding layer gets only k_start = max(0, end - window) from the runtime. If that is 0, the tokens are either
        the first of the sequence (`is_first`) or the last before the chunk.
        """
        k_start = self.k_start[b]
        if not self.sliding:
            return k_start
        otherwise = T.if_then_else(is_first, 0, next_position - length)
        return T.if_then_else(k_start > 0, k_start + self.shape.window - length, otherwise)
