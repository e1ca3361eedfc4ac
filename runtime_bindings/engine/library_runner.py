"""Compute logits with a compiled library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from argosy.dist.artefact import LibraryMetadata
from argosy.runtime_bindings.engine.kv import KVStore
from argosy.runtime_bindings.engine.loading import Library
from argosy.runtime_bindings.engine.runner import Chunk, RunnerLimits
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm


class LibraryRunner:
    """`Runner` over a compiled library. `weights`: one TVM tensor for each of the library's parameters, in its
    order."""

    def __init__(
        self,
        library: Library,
        weights: Sequence[Any],
        *,
        max_batch: int = 1,
        context_window: int | None = None,
        max_total_tokens: int | None = None,
    ) -> None:
        """`context_window` may be smaller than the compiled one, to save memory; the KV cache holds `max_total_tokens`,
        by default `max_batch` full windows."""
        tvm = load_tvm()
        of = library.metadata
        window = min(context_window or of.context_window_size, of.context_window_size)
        self.limits = RunnerLimits(of.vocab_size, window, of.prefill_chunk_size, min(max_batch, of.max_batch_size))
        self.library = library
        self.weight_bytes = sum(tensor.numel() * tensor.dtype.itemsize for tensor in weights)
        self._params = tvm.runtime.convert(list(weights))
        total = max_total_tokens or window * self.limits.max_batch
        self.kv_bytes = kv_bytes(of, total)
        machine, shape = library.machine, tvm.runtime.ShapeTuple
        sizes = (self.limits.max_batch, total, of.prefill_chunk_size, of.page_size, 0)
        self.store = KVStore(machine["create_paged_kv_cache"](*(shape([size]) for size in sizes)), of.page_size)
        self._hidden = of.hidden_size
        self._embed, self._prefill, self._decode = machine["embed"], machine["prefill"], machine["decode"]
        self._batch_prefill, self._batch_decode = machine["batch_prefill"], machine["batch_decode"]
        self._batch_verify = machine["batch_verify"]
        self._ids, self._ids_view = self._buffer(max(of.prefill_chunk_size, self.limits.max_batch))
        self._ends, self._ends_view = self._buffer(self.limits.max_batch)

    def _buffer(self, size: int) -> tuple[Any, np.ndarray]:
        """An int32 tensor of TVM's, and numpy's view of the same memory, to pass ids without a copy."""
        tensor = load_tvm().runtime.empty((size,), "int32", self.library.device)
        return tensor, np.from_dlpack(tensor)

    def prefill(self, chunks: Sequence[Chunk]) -> np.ndarray:
        counts = [len(chunk.tokens) for chunk in chunks]
        assert chunks and min(counts) > 0 and sum(counts) <= self.limits.prefill_chunk, counts
        with self.store.forward([chunk.sequence for chunk in chunks], counts):
            start = 0
            for chunk, count in zip(chunks, counts, strict=True):
                self._ids_view[start : start + count] = chunk.tokens
                start += count
            hidden = self._embedded(start, (1, start, self._hidden))
            if len(chunks) == 1:
                return self._logits(self._prefill(hidden, self.store.state, self._params))
            self._ends_view[: len(chunks)] = np.cumsum(counts) - 1
            ends = self._ends._create_view((len(chunks),))
            return self._logits(self._batch_prefill(hidden, ends, self.store.state, self._params))

    def decode(self, sequences: Sequence[int], tokens: Sequence[int]) -> np.ndarray:
        count = len(sequences)
        assert 0 < count == len(tokens) <= self.limits.max_batch, (count, len(tokens))
        with self.store.forward(sequences, [1] * count):
            self._ids_view[:count] = tokens
            hidden = self._embedded(count, (count, 1, self._hidden))
            step = self._decode if count == 1 else self._batch_decode
            return self._logits(step(hidden, self.store.state, self._params))

    def verify(self, chunk: Chunk) -> np.ndarray:
        """Logits after every token of a chunk, which may hold `prefill_chunk` tokens: (n, vocab) float32, valid until
        the next call."""
        count = len(chunk.tokens)
        assert 0 < count <= self.limits.prefill_chunk, count
        with self.store.forward([chunk.sequence], [count]):
            self._ids_view[:count] = chunk.tokens
            hidden = self._embedded(count, (1, count, self._hidden))
            return self._logits(self._batch_verify(hidden, self.store.state, self._params))

    def _embedded(self, count: int, shape: tuple[int, int, int]) -> Any:
        """Embeddings of the first `count` ids, (count, hidden), seen as `shape`."""
        return self._embed(self._ids._create_view((count,)), self._params)._create_view(shape)

    def _logits(self, result: Any) -> np.ndarray:
        """(b, vocab): a view of TVM's memory, which lives as long as the view."""
        return np.from_dlpack(result[0]).reshape(-1, self.limits.vocab_size)


def kv_bytes(metadata: LibraryMetadata, total_tokens: int) -> int:
    """Bytes of a KV cache for so many tokens: whole pages, and the spare one that TVM adds."""
    pages = -(-total_tokens // metadata.page_size) + 1
    return pages * metadata.page_size * metadata.kv_bytes_per_token
