"""Serve a GGUF file by llama.cpp: `python -m argosy.bench.worker_llama SETUP`.

Settings not made here are llama.cpp's defaults.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from argosy.bench.workload import Setup, SteppingEngine, serve
from argosy.support.errors import ArgosyError


class LlamaEngine(SteppingEngine):
    """A model in one context that holds several sequences."""

    def __init__(self, setup: Setup) -> None:
        import llama_cpp as api

        self.api = api
        self._log = api.llama_log_callback(lambda level, text, user_data: None)  # must live as long as the library
        api.llama_log_set(self._log, ctypes.c_void_p(0))
        api.llama_backend_init()
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = api.llama_model_load_from_file(setup.model.encode(), params)
        if not self.model:
            raise ArgosyError(f"llama.cpp cannot load `{setup.model}`")
        sizes = api.llama_context_default_params()
        sizes.n_ctx = setup.total
        sizes.n_seq_max = setup.batch
        sizes.kv_unified = True
        sizes.n_threads = sizes.n_threads_batch = setup.threads
        self.context = api.llama_init_from_model(self.model, sizes)
        if not self.context:
            raise ArgosyError(f"llama.cpp has no context of `{setup.total}` tokens for `{setup.model}`")
        self.memory = api.llama_get_memory(self.context)
        self.chunk = api.llama_n_batch(self.context)
        self.vocab_size = setup.vocab_size

    def facts(self) -> dict[str, Any]:
        """Return the bytes of its tensors."""
        return {"weights_bytes": self.api.llama_model_size(self.model)}

    def clear(self) -> None:
        self.api.llama_memory_clear(self.memory, True)

    def read(self, sequence: int, tokens: list[int]) -> None:
        for first in range(0, len(tokens), self.chunk):
            part = tokens[first : first + self.chunk]
            places = range(first, first + len(part))
            ends = [int(place == len(tokens) - 1) for place in places]  # logits of the last token only
            self._run(part, places, [sequence] * len(part), ends)

    def step(self, tokens: list[int], position: int) -> None:
        batch = len(tokens)
        self._run(tokens, [position] * batch, range(batch), [1] * batch)

    def cut(self, batch: int, position: int, steps: int) -> None:
        for sequence in range(batch):
            self.api.llama_memory_seq_rm(self.memory, sequence, position, -1)

    def _run(self, tokens: Sequence[int], places: Sequence[int], owners: Sequence[int], wanted: Sequence[int]) -> None:
        """Decode one batch of (token, position, sequence, whether to compute logits)."""
        batch = self.api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for row, (token, place, owner, logits) in enumerate(zip(tokens, places, owners, wanted, strict=True)):
            batch.token[row], batch.pos[row], batch.logits[row] = token, place, logits
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, owner
        code = self.api.llama_decode(self.context, batch)
        self.api.llama_synchronize(self.context)
        self.api.llama_batch_free(batch)
        if code != 0:
            raise ArgosyError(f"llama.cpp's decode failed with code `{code}`")


if __name__ == "__main__":
    serve(LlamaEngine)
