"""The path of a compiled library and its weights go in; a runner that computes logits comes out."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from argosy.runtime_bindings.engine.kv import KVStore
from argosy.runtime_bindings.engine.runner import Bounds, Chunk
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm
from argosy.support.errors import ArtefactError

ABI = 1
REBUILD = "build it again: argosy build --model MODEL --target cpu"

# LLVM's name of an arm64 feature -> the kernel's name in /proc/cpuinfo, where they are not the same word.
ARM_FEATURES = {"neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp", "lse": "atomics"}


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded library: its virtual machine and what its `_metadata` says."""

    path: Path
    machine: Any
    device: Any
    metadata: Mapping[str, Any]

    @property
    def bounds(self) -> Bounds:
        """Sizes that the library was compiled for."""
        of = self.metadata
        return Bounds(of["vocab_size"], of["context_window_size"], of["prefill_chunk_size"], of["max_batch_size"])

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the weights in the order in which the library takes them."""
        return tuple(each["name"] for each in self.metadata["params"])


def load_library(path: Path, weights_layout: str | None = None) -> Library:
    """Loads `path` for the CPU. A library of another ABI, for other weights than `weights_layout` (the digest in the manifest), or
    for CPU features that this machine lacks is an ArtefactError."""
    tvm = load_tvm()
    try:
        module = tvm.runtime.load_module(str(path))
        machine = tvm.runtime.vm.VirtualMachine(module, tvm.cpu())
        metadata = json.loads(str(machine["_metadata"]()))
    except (ValueError, RuntimeError, OSError, AttributeError) as error:
        raise ArtefactError(f"`{path}` cannot be loaded as a library: {_first_line(error)}", REBUILD) from error
    check_metadata(path, metadata, weights_layout)
    return Library(path, machine, tvm.cpu(), metadata)


def check_metadata(path: Path, metadata: Mapping[str, Any], weights_layout: str | None) -> None:
    """Refuses a library that this runtime, these weights or this CPU cannot run."""
    abi = metadata.get("abi")
    if abi != ABI:
        raise ArtefactError(f"`{path.name}` has ABI `{abi}`, and this runtime runs ABI {ABI}", REBUILD)
    layout = metadata.get("weights_layout")
    if weights_layout is not None and layout != weights_layout:
        raise ArtefactError(f"`{path.name}` expects weights laid out as `{layout}`, these are `{weights_layout}`", REBUILD)
    missing = missing_features(metadata.get("target", {}).get("features", ()), host_features())
    if missing:
        raise ArtefactError(f"`{path.name}` needs CPU features that this machine lacks: `{', '.join(missing)}`", REBUILD)


def missing_features(wanted: Iterable[str], host: frozenset[str] | None) -> list[str]:
    """Those of `wanted` (LLVM's spelling, `+avx512vnni`) that `host` does not list; none where the host is not known."""
    if host is None:
        return []
    names = [feature.lstrip("+") for feature in wanted if not feature.startswith("-")]
    return [name for name in names if _plain(ARM_FEATURES.get(name, name)) not in host]


def host_features() -> frozenset[str] | None:
    """The flags of this CPU as /proc/cpuinfo spells them, without `_` and `.`; None where there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
    if found is None:
        return None
    flags = {_plain(flag) for flag in found.group(1).split()}
    if platform.machine() in ("x86_64", "AMD64"):
        flags |= {"64bit", "sse3" if "pni" in flags else "", "lzcnt" if "abm" in flags else ""}
    return frozenset(flags)


def _plain(flag: str) -> str:
    return flag.replace("_", "").replace(".", "").lower()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]


def kv_bytes(library: Library, max_total_tokens: int) -> int:
    """Bytes of a KV cache of this size: whole pages, and the one that TVM adds."""
    page = library.metadata["page_size"]
    pages = -(-max_total_tokens // page) + 1
    return int(pages * page * library.metadata["kv_bytes_per_token"])


class LibraryRunner:
    """`Runner` over a compiled library. `weights`: one array for each of `library.parameter_names`, in that order; they are
    copied into TVM one by one, so an iterator over memory-mapped arrays keeps the peak low."""

    def __init__(
        self,
        library: Library,
        weights: Iterable[np.ndarray],
        *,
        max_batch: int = 1,
        context_window: int | None = None,
        max_total_tokens: int | None = None,
    ) -> None:
        tvm = load_tvm()
        of = library.metadata
        compiled = library.bounds
        window = min(context_window or compiled.context_window, compiled.context_window)
        self.bounds = Bounds(compiled.vocab_size, window, compiled.prefill_chunk, min(max_batch, compiled.max_batch))
        self.library = library
        self.weight_bytes = 0
        self._params = tvm.runtime.convert(list(self._load(weights)))
        total = max_total_tokens or window * self.bounds.max_batch
        self.kv_bytes = kv_bytes(library, total)
        machine, shape = library.machine, tvm.runtime.ShapeTuple
        sizes = (self.bounds.max_batch, total, compiled.prefill_chunk, of["page_size"], 0)
        self.store = KVStore(machine["create_paged_kv_cache"](*(shape([size]) for size in sizes)), of["page_size"])
        self._hidden = of["hidden_size"]
        self._embed, self._prefill, self._decode = machine["embed"], machine["prefill"], machine["decode"]
        self._batch_prefill, self._batch_decode = machine["batch_prefill"], machine["batch_decode"]
        self._ids, self._ids_view = self._buffer(max(compiled.prefill_chunk, self.bounds.max_batch))
        self._ends, self._ends_view = self._buffer(self.bounds.max_batch)

    def _load(self, weights: Iterable[np.ndarray]) -> Iterable[Any]:
        tvm = load_tvm()
        wanted = self.library.metadata["params"]
        count = 0
        for count, (record, array) in enumerate(zip(wanted, weights, strict=False), start=1):
            if list(array.shape) != list(record["shape"]) or array.dtype != np.dtype(record["dtype"]):
                raise ArtefactError(
                    f"weight `{record['name']}` is {array.dtype}{list(array.shape)}, the library expects "
                    f"{record['dtype']}{list(record['shape'])}",
                    REBUILD,
                )
            self.weight_bytes += array.nbytes
            yield tvm.runtime.tensor(array, self.library.device)
        if count != len(wanted):
            raise ArtefactError(f"the library expects {len(wanted)} weights, and there are `{count}`", REBUILD)

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

    def _embedded(self, count: int, shape: tuple[int, int, int]) -> Any:
        """Embeddings of the first `count` ids, (count, hidden), seen as `shape`."""
        return self._embed(self._ids._create_view((count,)), self._params)._create_view(shape)

    def _logits(self, result: Any) -> np.ndarray:
        """(b, vocab): a view of TVM's memory, which lives as long as the view."""
        return np.from_dlpack(result[0]).reshape(-1, self.bounds.vocab_size)
