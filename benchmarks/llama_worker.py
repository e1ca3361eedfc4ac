"""A GGUF file and a number of threads go in; llama.cpp answers the same requests as `argosy_worker.py serve`.

    llama_worker.py FILE THREADS

Everything that is not set here is llama.cpp's own default.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Sequence

import llama_cpp
from workload import CONTEXT, MAX_BATCH, answer_requests, token_ids


@llama_cpp.llama_log_callback
def _silence(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
    """llama.cpp's log goes nowhere."""


class Engine:
    """A model in one context that holds several sequences."""

    def __init__(self, path: str, threads: int) -> None:
        llama_cpp.llama_log_set(_silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        wishes = llama_cpp.llama_model_default_params()
        wishes.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), wishes)
        if not self.model:
            sys.exit(f"error: llama.cpp cannot load `{path}`")
        setup = llama_cpp.llama_context_default_params()
        setup.n_ctx = CONTEXT * MAX_BATCH
        setup.n_seq_max = MAX_BATCH
        setup.kv_unified = True
        setup.n_threads = setup.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, setup)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def prefill(self, tokens: int) -> float:
        """Seconds to read `tokens` tokens into an empty context."""
        llama_cpp.llama_memory_clear(self.memory, True)
        started = time.perf_counter()
        self._read(0, tokens)
        return time.perf_counter() - started

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Seconds for `steps` tokens of each of `batch` sequences, after `context` tokens each."""
        llama_cpp.llama_memory_clear(self.memory, True)
        for sequence in range(batch):
            self._read(sequence, context)
        started = time.perf_counter()
        for step, token in enumerate(token_ids(steps, self.vocab_size)):
            self._run([token] * batch, [context + step] * batch, list(range(batch)), [1] * batch)
        return time.perf_counter() - started

    def _read(self, sequence: int, count: int) -> None:
        tokens = token_ids(count, self.vocab_size)
        self._run(tokens, list(range(count)), [sequence] * count, [0] * (count - 1) + [1])

    def _run(self, tokens: Sequence[int], places: Sequence[int], owners: Sequence[int], wanted: Sequence[int]) -> None:
        """One batch of (token, position, sequence, whether its logits are wanted)."""
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for row, (token, place, owner, logits) in enumerate(zip(tokens, places, owners, wanted, strict=True)):
            batch.token[row], batch.pos[row], batch.logits[row] = token, place, logits
            batch.n_seq_id[row], batch.seq_id[row][0] = 1, owner
        code = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_synchronize(self.context)
        llama_cpp.llama_batch_free(batch)
        if code != 0:
            sys.exit(f"error: llama.cpp's decode failed with code {code}")


if __name__ == "__main__":
    answer_requests(Engine(sys.argv[1], int(sys.argv[2])))
