"""Compute logits with a compiled library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from argosy.dist.artefact import LibraryMetadata
from argosy.runtime_bindings.engine.batch import Batch
from argosy.runtime_bindings.engine.device import DeviceLogits, HostLogits, Logits, TokenIds
from argosy.runtime_bindings.engine.loading import Library
from argosy.runtime_bindings.engine.runner import RunnerLimits
from argosy.runtime_bindings.engine.store import KVStore
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm


class LibraryRunner:
    """A `Runner` over a compiled library.

    The library has an entry point for each common shape of a batch:

    | batch | entry point | logits after |
    |---|---|---|
    | one token of one sequence, of several | `decode`, `batch_decode` | every token |
    | many tokens of one sequence | `prefill` | the last |
    | chunks of any length | `batch_prefill` | the positions it is given |
    | a chunk that wants all its logits | `batch_verify` | every token |
    """

    def __init__(
        self,
        library: Library,
        weights: Sequence[Any],
        *,
        max_batch: int = 1,
        context_window: int | None = None,
        max_total_tokens: int | None = None,
    ) -> None:
        """Create the KV cache.

        `weights` are tensors of the library's device, one for each of its parameters, in its order. `context_window`
        may be smaller than the compiled one, to save memory. The cache holds `max_total_tokens`, by default
        `max_batch` full windows.
        """
        shape = load_tvm().runtime.ShapeTuple
        metadata, machine, device = library.metadata, library.machine, library.device
        window = min(context_window or metadata.context_window_size, metadata.context_window_size)
        max_batch = min(max_batch, metadata.max_batch_size)
        total = max_total_tokens or window * max_batch
        sizes = (max_batch, total, metadata.prefill_chunk_size, metadata.page_size, 0)
        self.limits = RunnerLimits(metadata.vocab_size, window, metadata.prefill_chunk_size, max_batch)
        self.library = library
        self.weight_bytes = sum(tensor.numel() * tensor.dtype.itemsize for tensor in weights)
        self.kv_bytes = kv_bytes(metadata, total)
        self.store = KVStore(machine["create_paged_kv_cache"](*(shape([size]) for size in sizes)), metadata.page_size)
        self._params = load_tvm().runtime.convert(list(weights))
        self._hidden = metadata.hidden_size
        self._embed, self._prefill, self._decode = machine["embed"], machine["prefill"], machine["decode"]
        self._batch_prefill, self._batch_decode = machine["batch_prefill"], machine["batch_decode"]
        self._batch_verify = machine["batch_verify"]
        self._ids = TokenIds(device, max(metadata.prefill_chunk_size, max_batch))
        self._places = TokenIds(device, max_batch)

    def forward(self, batch: Batch) -> Logits:
        counts = batch.counts
        total = sum(counts)
        assert min(counts) > 0 and len(counts) <= self.limits.max_batch, counts
        assert total == len(counts) or total <= self.limits.prefill_chunk, counts
        with self.store.forward(batch.sequences, counts):
            result, rows = self._compute(batch, counts, total)
        logits = DeviceLogits(self.library.device, result[0])
        return logits if rows is None else HostLogits(logits.numpy()[rows])

    def _compute(self, batch: Batch, counts: list[int], total: int) -> tuple[Any, list[int] | None]:
        """Run the entry point that suits the batch; return its result, and which rows of it are wanted unless all."""
        chunks = batch.chunks
        start = 0
        for chunk, count in zip(chunks, counts, strict=True):
            self._ids.host[start : start + count] = chunk.tokens
            start += count
        hidden = self._embed(self._ids.first(total), self._params)  # (n, hidden)
        row = (1, total, self._hidden)
        state, params = self.store.state, self._params
        if any(chunk.logits == "all" for chunk in chunks):
            after = wanted_rows(batch, counts)
            result = self._batch_verify(hidden._create_view(row), state, params)
            return result, None if len(after) == total else after
        last = [place for place, chunk in enumerate(chunks) if chunk.logits == "last"]
        rows = None if len(last) == len(chunks) else last
        if total == len(chunks):
            step = self._decode if total == 1 else self._batch_decode
            return step(hidden._create_view((total, 1, self._hidden)), state, params), rows
        if len(chunks) == 1:
            return self._prefill(hidden._create_view(row), state, params), rows
        ends = wanted_rows(batch, counts)
        positions = ends or [0]  # the entry point computes one row at least
        self._places.host[: len(positions)] = positions
        places = self._places.first(len(positions))
        return self._batch_prefill(hidden._create_view(row), places, state, params), None if ends else []


def wanted_rows(batch: Batch, counts: Sequence[int]) -> list[int]:
    """List the tokens of a batch, counted through all its chunks, after which logits are wanted."""
    rows: list[int] = []
    end = 0
    for chunk, count in zip(batch.chunks, counts, strict=True):
        end += count
        if chunk.logits != "none":
            rows.extend(range(end - count if chunk.logits == "all" else end - 1, end))
    return rows


def kv_bytes(metadata: LibraryMetadata, total_tokens: int) -> int:
    """Return the bytes of a KV cache for `total_tokens`: whole pages, and the spare one that TVM adds."""
    pages = -(-total_tokens // metadata.page_size) + 1
    return pages * metadata.page_size * metadata.kv_bytes_per_token
