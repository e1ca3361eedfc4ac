"""Print an answer to stdout as it is generated, until it ends or Ctrl-C is pressed."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from argosy.cli import console
from argosy.runtime_bindings.chat.loops import LoopDetector

if TYPE_CHECKING:
    from argosy.runtime_bindings.chat.answer import Reply
    from argosy.runtime_bindings.chat.module import ChatModule

# The note that is printed when something else than the model ended an answer, by finish reason.
ENDINGS = {
    "length": "cut after {tokens} tokens: --max-tokens allows more",
    "context": "the context window is full; --on-context-full slide forgets the oldest turns instead",
    "cancelled": "stopped",
}
LOOPING = "stopped: it says the same over and over; ask in other words, or try --temperature or --repetition-penalty"


class Talk:
    """A model, with the settings for its answers."""

    def __init__(self, model: ChatModule, settings: Mapping[str, Any], as_json: bool, stop_loops: bool = False) -> None:
        """`stop_loops`: end an answer that says the same over and over."""
        self.model = model
        self.settings = dict(settings)
        self.as_json = as_json
        self.stop_loops = stop_loops

    def answer(self, prompt: str) -> Reply:
        """Generate the answer to `prompt`, print it, and return it.

        The first Ctrl-C ends the answer where it is; a second one raises KeyboardInterrupt and undoes the turn.
        """
        loops = LoopDetector() if self.stop_loops else None
        with cancelled_by_ctrl_c(self.model):
            for piece in self.model.generate(prompt, generation_config=self.settings, stream=True):
                if not self.as_json and piece:
                    sys.stdout.write(console.answer_text(piece))
                    sys.stdout.flush()
                if loops is not None and loops.add(piece):
                    self.model.cancel()
        reply = self.model.last
        assert reply is not None
        if self.as_json:
            console.data_json(self._record(reply), indent=None)
        else:
            click.echo(nl=not reply.text.endswith("\n"))
            if reply.finish_reason in ENDINGS:
                looped = loops is not None and loops.found is not None and reply.finish_reason == "cancelled"
                note = LOOPING if looped else ENDINGS[reply.finish_reason].format(tokens=len(reply.tokens))
                console.say(console.styled(f"({note})", dim=True))
        return reply

    def _record(self, reply: Reply) -> dict[str, object]:
        return {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": len(reply.tokens),
            "stats": self.model.stats().to_json(),
        }


@contextlib.contextmanager
def cancelled_by_ctrl_c(model: ChatModule) -> Iterator[None]:
    """Within the block, let the first Ctrl-C cancel the answer; the next one raises KeyboardInterrupt as usual."""

    def cancel(number: int, frame: FrameType | None) -> None:
        model.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
