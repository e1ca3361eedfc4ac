"""Serve an artefact as an engine: `python -m argosy.bench.worker_argosy SETUP`."""

from __future__ import annotations

import math
from typing import Any

from argosy.bench.workload import Setup, SteppingEngine, serve
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.support.errors import UsageError

KV_NAMES = {"float16": "f16", "float32": "f32"}  # the values of `argosy build --kv`


class ArgosyEngine(SteppingEngine):
    """A loaded artefact that computes on token ids."""

    def __init__(self, setup: Setup) -> None:
        from argosy.runtime_bindings.engine.tvm_runtime import configure_threads, use_runtime_only

        use_runtime_only()
        configure_threads(setup.threads)
        from argosy.dist.artefact import open_artefact
        from argosy.runtime_bindings.engine.library_runner import LibraryRunner
        from argosy.runtime_bindings.engine.loading import load_library, load_weights

        artefact = open_artefact(setup.model)
        self.library = load_library(artefact)
        most = self.library.metadata.max_batch_size
        if setup.batch > most:
            sentence = f"`{artefact.name}` runs `{most}` sequences together, but the benchmark needs `{setup.batch}`"
            raise UsageError(sentence, "give a smaller `--batch`, or build with a larger `--max-batch`")
        weights = load_weights(artefact, self.library)
        pages = setup.batch * self.library.metadata.page_size  # each sequence may have one partly empty page
        self.runner = LibraryRunner(
            self.library,
            weights,
            max_batch=setup.batch,
            context_window=setup.window,
            max_total_tokens=setup.total + pages,
        )
        self.vocab_size = setup.vocab_size
        self._sequences = 0

    def facts(self) -> dict[str, Any]:
        """Return sizes and the settings of the library."""
        metadata = self.library.metadata
        target = metadata.values["target"]
        assert isinstance(target, dict)
        return {
            "weights_bytes": sum(_nbytes(shape, dtype) for _, shape, dtype in metadata.params),
            "step_weights_bytes": step_weights_bytes(metadata.params),
            "kv_bytes_per_token": metadata.kv_bytes_per_token,
            "kv_cache_bytes": self.runner.kv_bytes,
            "build": {
                "targets": [target["name"]],
                "activations": metadata.values["activations"],
                "kv": KV_NAMES[str(metadata.values["kv_dtype"])],
                "context_window": metadata.context_window_size,
                "prefill_chunk": metadata.prefill_chunk_size,
                "max_batch": metadata.max_batch_size,
            },
        }

    def clear(self) -> None:
        for sequence in range(self._sequences):
            self.runner.store.remove(sequence)
        self._sequences = 0

    def read(self, sequence: int, tokens: list[int]) -> None:
        self.runner.store.add(sequence)
        self._sequences = sequence + 1
        size = self.runner.limits.prefill_chunk
        for first in range(0, len(tokens), size):
            self.runner.forward(Batch([Chunk(sequence, tokens[first : first + size])]))

    def step(self, tokens: list[int], position: int) -> None:
        self.runner.forward(Batch([Chunk(sequence, (token,)) for sequence, token in enumerate(tokens)]))

    def cut(self, batch: int, position: int, steps: int) -> None:
        for sequence in range(batch):
            self.runner.store.truncate(sequence, position)


def step_weights_bytes(params: Any) -> int:
    """Return the bytes of weights that a decode step reads: all but an embedding that is not also the output matrix."""
    separate = any(name.startswith("lm_head.") for name, _, _ in params)
    return sum(
        _nbytes(shape, dtype)
        for name, shape, dtype in params
        if not (separate and name.startswith("model.embed_tokens."))
    )


def _nbytes(shape: tuple[int, ...], dtype: str) -> int:
    import numpy as np

    return math.prod(shape) * np.dtype(dtype).itemsize


if __name__ == "__main__":
    serve(ArgosyEngine)
