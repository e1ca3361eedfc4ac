"""Choose the upper bounds that memory is planned for: the most a library accepts in a call and in a conversation."""

from __future__ import annotations

from dataclasses import dataclass

from argosy.model_defs.networks.network import Network
from argosy.support.errors import UsageError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Tokens a sequence may hold, tokens in one prefill call, and sequences in one batch."""

    context_window: int
    prefill_chunk: int
    max_batch: int


def bounds_for(
    network: Network, context_window: int | None = None, prefill_chunk: int | None = None, max_batch: int | None = None
) -> Bounds:
    """Return the given bounds, with defaults for the others.

    A sliding window caps the prefill chunk: inside a chunk every token sees every earlier one, which is right only
    while the chunk is no longer than the window.

    Raises UsageError for a value out of range.
    """
    context = context_window if context_window is not None else min(network.context_window, 8192)
    if not 1 <= context <= network.context_window:
        raise UsageError(
            f"context window `{context}` is not possible for this model",
            f"--context-window takes 1 to {network.context_window}",
        )
    widest = min(context, network.window or context)
    chunk = prefill_chunk if prefill_chunk is not None else 512
    if chunk < 1:
        raise UsageError(f"prefill chunk `{chunk}` is not positive", "--prefill-chunk takes 1 or more")
    batch = max_batch if max_batch is not None else 8
    if not 1 <= batch <= 256:
        raise UsageError(f"batch size `{batch}` is not possible", "--max-batch takes 1 to 256")
    return Bounds(context, min(chunk, widest), batch)
