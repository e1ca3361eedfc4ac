"""A GGUF file goes in, OpenVINO GenAI as an engine comes out: `python -m argosy.bench.worker_openvino SETUP`.

Everything that is not set here is its own default: paged attention, and a cache of prefixes. No two prefills begin with
the same token, so that none is answered from that cache; what a decode stands on may be.
"""

from __future__ import annotations

import time
from typing import Any

from argosy.bench.workload import Setup, serve, token_ids


class OpenVinoEngine:
    """A pipeline on the CPU, given token ids; times of single tokens are those that it notes itself."""

    def __init__(self, setup: Setup) -> None:
        import openvino_genai

        self.api = openvino_genai
        self.pipeline = openvino_genai.LLMPipeline(setup.model, "CPU", INFERENCE_NUM_THREADS=setup.threads)
        self.vocab_size = setup.vocab_size
        self._prefills = 0

    def facts(self) -> dict[str, Any]:
        """It does not tell what its weights weigh."""
        return {}

    def prefill(self, tokens: int) -> float:
        """Seconds to the first token of an answer."""
        self._prefills += 1
        prompt = token_ids(tokens, self.vocab_size)
        started = time.perf_counter()
        self._generate([(prompt[0] + self._prefills) % self.vocab_size, *prompt[1:]], 1, 1)
        return time.perf_counter() - started

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Seconds from the first token to the one `steps` later."""
        times = self._generate(token_ids(context, self.vocab_size), batch, steps + 1)
        assert len(times) == steps + 1, (len(times), steps)
        return (times[-1] - times[0]) / 1000

    def _generate(self, prompt: list[int], batch: int, count: int) -> list[float]:
        """The times of `count` tokens, in milliseconds; the sequences of a batch get theirs together."""
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
