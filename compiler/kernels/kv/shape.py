"""Define the compile-time constants that attention kernels are specialised for."""

from __future__ import annotations

import math
from dataclasses import dataclass

PAGE_SIZE = 16  # tokens in a page of the cache, and lanes of a row of scores: CPU kernels rely on both
# CPU kernels sum the keys of a sequence in segments of this many pages, each by itself, and add the segments up in
# order. Where segments start does not depend on the step, so neither do the bits of the result.
SEGMENT_PAGES = 8
SEGMENT = SEGMENT_PAGES * PAGE_SIZE


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Head counts, sizes and dtype of one model's attention, and how many query rows a kernel keeps in registers.

    `softcap` c turns a score s into c * tanh(s / c). `window` is the width in tokens of the sliding layers, if any.
    `rows` (at most 16): a row is one query head of one token; the rows of a tile share a KV head.
    """

    heads: int
    kv_heads: int
    head_dim: int
    dtype: str
    softcap: float | None = None
    window: int | None = None
    rows: int = 12

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.heads // self.kv_heads

    @property
    def lanes(self) -> int:
        """Elements of a head that form one vector."""
        return math.gcd(self.head_dim, 16)

    @property
    def block(self) -> int:
        """Pages that share a running maximum: 1, 2, 4 or 8.

        Their keys and values, as float32, stay in the second-level cache while a chunk's tiles read them.
        """
        fits = max(1, min(SEGMENT_PAGES, 512 // self.head_dim))
        return 1 << fits.bit_length() - 1

    @property
    def decode_rows(self) -> int:
        """Rows of a tile when each sequence has one query token: the group, in equal tiles of at most `rows`."""
        tiles = -(-self.group // self.rows)
        return -(-self.group // tiles)

    @property
    def side_elements(self) -> int:
        """Elements of the keys, or of the values, of one KV head in one page."""
        return PAGE_SIZE * self.head_dim

    @property
    def head_elements(self) -> int:
        """Elements of one KV head in one page: its keys, then its values."""
        return 2 * self.side_elements

    @property
    def page_elements(self) -> int:
        """Elements of a page, which stores one KV head after the other."""
        return self.kv_heads * self.head_elements
