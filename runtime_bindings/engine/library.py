"""A compiled library and its weights go in; a runner that computes logits comes out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from argosy.dist.artefact import Artefact, LibraryMetadata
from argosy.dist.tvm_bridge import StoredParams
from argosy.runtime_bindings.engine.kv import KVStore
from argosy.runtime_bindings.engine.packed_cache import PackedCache
from argosy.runtime_bindings.engine.packing import pack, packing_recipe
from argosy.runtime_bindings.engine.runner import Bounds, Chunk
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm
from argosy.support.errors import ArtefactError


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library: its virtual machine, what its `_metadata` says, its file's name and the target it is for."""

    machine: Any
    device: Any
    metadata: LibraryMetadata
    file: str
    target: str


def load_library(artefact: Artefact, target: str | None = None) -> Library:
    """Loads the library for `target`, or the fastest that this machine can run. ArtefactError where none runs here."""
    record = artefact.library(target)
    path = artefact.library_path(record)
    tvm = load_tvm()
    device = tvm.cpu()
    try:
        machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(str(path)), device)
        text = str(machine["_metadata"]())
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        reason = str(error).strip().split("\n", 1)[0]
        hint = artefact.rebuild_hint(record.target.name)
        raise ArtefactError(f"`{path}` cannot be loaded as a library: {reason}", hint) from error
    return Library(machine, device, artefact.check_metadata(record, text), record.file, record.target.name)


def load_weights(
    artefact: Artefact, library: Library, cache_packed: bool = False, warn: Callable[[str], None] = warnings.warn
) -> list[Any]:
    """The weights as TVM tensors, every byte checked, in the layout and the order in which the library takes them.

    `cache_packed`: what had to be packed is kept beside the artefact, and mapped at the next load. Where that cannot
    be, `warn` hears why.
    """
    recipe = packing_recipe(library.machine)
    cache = None
    if cache_packed and recipe is not None and artefact.manifest is not None:
        record = artefact.manifest.libraries[library.target]
        cache = PackedCache(artefact, record, recipe, library.metadata.params)
        kept = cache.load()
        if kept is not None:
            return kept
    stored = StoredParams(artefact.load_params(), library.metadata.params, artefact.rebuild_hint())
    weights = pack(library.machine, stored, stored.release)
    if cache is not None:
        problem = cache.save(weights)
        if problem is not None:
            warn(problem)
    return weights


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
        self.bounds = Bounds(of.vocab_size, window, of.prefill_chunk_size, min(max_batch, of.max_batch_size))
        self.library = library
        self.weight_bytes = sum(tensor.numel() * tensor.dtype.itemsize for tensor in weights)
        self._params = tvm.runtime.convert(list(weights))
        total = max_total_tokens or window * self.bounds.max_batch
        self.kv_bytes = kv_bytes(of, total)
        machine, shape = library.machine, tvm.runtime.ShapeTuple
        sizes = (self.bounds.max_batch, total, of.prefill_chunk_size, of.page_size, 0)
        self.store = KVStore(machine["create_paged_kv_cache"](*(shape([size]) for size in sizes)), of.page_size)
        self._hidden = of.hidden_size
        self._embed, self._prefill, self._decode = machine["embed"], machine["prefill"], machine["decode"]
        self._batch_prefill, self._batch_decode = machine["batch_prefill"], machine["batch_decode"]
        self._batch_verify = machine["batch_verify"]
        self._ids, self._ids_view = self._buffer(max(of.prefill_chunk_size, self.bounds.max_batch))
        self._ends, self._ends_view = self._buffer(self.bounds.max_batch)

    def _buffer(self, size: int) -> tuple[Any, np.ndarray]:
        """An int32 tensor of TVM's, and numpy's view of the same memory, to pass ids without a copy."""
        tensor = load_tvm().runtime.empty((size,), "int32", self.library.device)
        return tensor, np.from_dlpack(tensor)

    def prefill(self, chunks: Sequence[Chunk]) -> np.ndarray:
        counts = [len(chunk.tokens) for chunk in chunks]
        assert chunks and min(counts) > 0 and sum(counts) <= self.bounds.prefill_chunk, counts
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
        assert 0 < count == len(tokens) <= self.bounds.max_batch, (count, len(tokens))
        with self.store.forward(sequences, [1] * count):
            self._ids_view[:count] = tokens
            hidden = self._embedded(count, (count, 1, self._hidden))
            step = self._decode if count == 1 else self._batch_decode
            return self._logits(step(hidden, self.store.state, self._params))

    def verify(self, chunk: Chunk) -> np.ndarray:
        """Logits after every token of a chunk, which may hold `prefill_chunk` tokens: (n, vocab) float32, valid until
        the next call."""
        count = len(chunk.tokens)
        assert 0 < count <= self.bounds.prefill_chunk, count
        with self.store.forward([chunk.sequence], [count]):
            self._ids_view[:count] = chunk.tokens
            hidden = self._embedded(count, (1, count, self._hidden))
            return self._logits(self._batch_verify(hidden, self.store.state, self._params))

    def _embedded(self, count: int, shape: tuple[int, int, int]) -> Any:
        """Embeddings of the first `count` ids, (count, hidden), seen as `shape`."""
        return self._embed(self._ids._create_view((count,)), self._params)._create_view(shape)

    def _logits(self, result: Any) -> np.ndarray:
        """(b, vocab): a view of TVM's memory, which lives as long as the view."""
        return np.from_dlpack(result[0]).reshape(-1, self.bounds.vocab_size)


def kv_bytes(metadata: LibraryMetadata, total_tokens: int) -> int:
    """Bytes of a KV cache for so many tokens: whole pages, and the spare one that TVM adds."""
    pages = -(-total_tokens // metadata.page_size) + 1
    return pages * metadata.page_size * metadata.kv_bytes_per_token
