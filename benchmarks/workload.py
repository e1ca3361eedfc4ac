"""Requests, a JSON object a line on stdin, go in; the seconds that an engine took for each come out on stdout.

Shared by the workers of all engines, so that they get the same token ids, in contexts of the same size.
"""

from __future__ import annotations

import json
import sys
from typing import Protocol

CONTEXT = 1024
MAX_BATCH = 4


class Engine(Protocol):
    """What a worker drives."""

    def prefill(self, tokens: int) -> float:
        """Seconds to read `tokens` tokens into an empty context."""

    def decode(self, context: int, batch: int, steps: int) -> float:
        """Seconds for `steps` tokens of each of `batch` sequences, after `context` tokens each."""


def token_ids(count: int, vocab_size: int) -> list[int]:
    """Fixed ids, spread over the vocabulary."""
    return [number * 7919 % vocab_size for number in range(count)]


def answer_requests(engine: Engine) -> None:
    """Say that the engine is ready, then answer until stdin ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "prefill":
            seconds = engine.prefill(request["tokens"])
        else:
            seconds = engine.decode(request["context"], request["batch"], request["steps"])
        print(json.dumps({"seconds": seconds}), flush=True)
