"""Serve a GGUF file by OpenVINO GenAI: `python -m argosy.bench.worker_openvino SETUP`.

Settings not made here are its defaults: paged attention and a prefix cache. Every prefill begins with another token, so
none is answered from that cache; the context of a decode may be.
"""

from __future__ import annotations

import time
from typing import Any

from argosy.bench.workload import Setup, serve, token_ids


class OpenVinoEngine:
    """A pipeline on the CPU that takes token ids; times of single tokens are its own measurements."""

    def __init__(self, setup: Setup) -> None:
        import openvino_genai

        self.api = openvino_genai
        self.pipeline = openvino_genai.LLMPipeline(setup.model, "CPU", INFERENCE_NUM_THREADS=setup.threads)
        self.vocab_size = setup.vocab_size
        self._prefills = 0

    def facts(self) -> dict[str, Any]:
        """Return nothing: OpenVINO does not report the size of its weights."""
        return {}

    def prefill(self, tokens: int) -> float:
        """See `MeasuredEngine`."""
        self._prefills += 1
        prompt = token_ids(tokens, self.vocab_size)
        started = time.perf_counter()
        self._generate([(prompt[0] + self._prefills) % self.vocab_size, *prompt[1:]], 1, 1)
        return time.perf_counter() - started

    def decode(self, context: int, batch: int, steps: int) -> float:
        """See `MeasuredEngine`."""
        times = self._generate(token_ids(context, self.vocab_size), batch, steps + 1)
        assert len(times) == steps + 1, (len(times), steps)
        return (times[-1] - times[0]) / 1000

    def _generate(self, prompt: list[int], batch: int, count: int) -> list[float]:
        """Generate `count` tokens per sequence, and return when each step ended, in milliseconds."""
        import numpy as np
        import openvino

        settings = self.api.GenerationConfig()
        settings.max_new_tokens = count
        settings.ignore_eos = True
        settings.do_sample = False
        ids = np.array([prompt] * batch, dtype=np.int64)
        inputs = self.api.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        result = self.pipeline.generate(inputs, settings)
        return list(result.perf_metrics.raw_metrics.m_new_token_times)


if __name__ == "__main__":
    serve(OpenVinoEngine)
