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
from argosy.cli.logprobs import logprob_records, logprob_rows
from argosy.cli.waiting import READING_AFTER, WaitingLine
from argosy.cli.wrap import WordWrap
from argosy.runtime_bindings.chat.loops import LoopDetector
from argosy.support.text import shown_by

if TYPE_CHECKING:
    from argosy.runtime_bindings.chat.answer import Reply
    from argosy.runtime_bindings.chat.module import ChatModule

# The note that is printed when something else than the model ended an answer, by finish reason.
ENDINGS = {
    "length": "cut after {tokens} tokens: {max_tokens} allows more",
    "context": "the context window is full; {on_context_full} slide forgets the oldest turns instead",
    "cancelled": "stopped",
}
LOOPING = "stopped: it says the same over and over; ask in other words, or try {temperature} or {repetition_penalty}"


class _Spelling(dict[str, object]):
    """How a setting is written: as an option of the command line, or as a command of a conversation."""

    def __init__(self, in_conversation: bool, **values: object) -> None:
        super().__init__(values)
        self._in_conversation = in_conversation

    def __missing__(self, name: str) -> str:
        return f"/set {name}" if self._in_conversation else f"--{name.replace('_', '-')}"


class InterruptedAnswerError(Exception):
    """Ctrl-C ended an answer, and with it what was to follow."""


class Talk:
    """A model, with the settings for its answers and for how they are shown."""

    def __init__(self, model: ChatModule, settings: Mapping[str, Any], as_json: bool, stop_loops: bool = False) -> None:
        """`stop_loops`: end an answer that says the same over and over."""
        self.model = model
        self.settings = dict(settings)
        self.as_json = as_json
        self.stop_loops = stop_loops
        self.in_conversation = False  # at a terminal, where settings are changed by /set
        self.interrupted = False  # whether Ctrl-C ended the last answer
        self.ends_when_interrupted = False
        self.wordwrap = True
        self.verbose = False
        self.earlier: list[Mapping[str, Any]] | None = None  # the conversation that the next answer continues

    def answer(self, prompt: str) -> Reply:
        """Generate the answer to `prompt`, print it, and return it.

        The first Ctrl-C ends the answer where it is, and raises InterruptedAnswerError if `ends_when_interrupted`. A
        second one raises KeyboardInterrupt and undoes the turn.
        """
        loops = LoopDetector() if self.stop_loops else None
        wrap = WordWrap() if self.wordwrap and console.is_terminal(sys.stdout) else None
        line = WaitingLine(self._reading, READING_AFTER)
        asked: Any = prompt
        if self.earlier is not None:
            asked = [*self.earlier, {"role": "user", "content": prompt}]
        try:
            with cancelled_by_ctrl_c(self.model):
                for piece in self.model.generate(asked, generation_config=self.settings, stream=True):
                    if piece:
                        line.end()
                        self._show(piece, wrap)
                    if loops is not None and loops.add(piece):
                        self.model.cancel()
        finally:
            line.end()
            if wrap is not None:
                self._show("", wrap, end=True)
        self.earlier = None
        reply = self.model.last
        assert reply is not None
        looped = loops is not None and loops.found is not None and reply.finish_reason == "cancelled"
        self.interrupted = reply.finish_reason == "cancelled" and not looped
        self._conclude(reply, looped)
        if self.interrupted and self.ends_when_interrupted:
            raise InterruptedAnswerError
        return reply

    def _show(self, piece: str, wrap: WordWrap | None, end: bool = False) -> None:
        if self.as_json:
            return
        text = shown_by(sys.stdout, piece)
        if wrap is not None:
            text = wrap.finish() if end else wrap.add(text)
        sys.stdout.write(text)
        sys.stdout.flush()

    def _conclude(self, reply: Reply, looped: bool) -> None:
        """Print what belongs below an answer, or its record."""
        if self.as_json:
            console.data_json(self._record(reply), indent=None)
            return
        click.echo(nl=not reply.text.endswith("\n"))
        if reply.finish_reason in ENDINGS:
            spelling = _Spelling(self.in_conversation, tokens=len(reply.tokens))
            note = (LOOPING if looped else ENDINGS[reply.finish_reason]).format_map(spelling)
            console.say(console.styled(f"({note})", dim=True))
        if self.settings.get("logprobs"):
            rows = logprob_rows(reply.logprobs, self.model.tokenizer)
            console.table(("token", "log-probability", "probability", "likeliest"), rows, sys.stderr)
        if self.verbose:
            console.say(console.styled(str(self.model.stats()), dim=True))

    def _reading(self) -> str:
        return f"(reading the prompt: {self.model.stats().context_tokens} tokens so far)"

    def _record(self, reply: Reply) -> dict[str, object]:
        record: dict[str, object] = {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": len(reply.tokens),
            "stats": self.model.stats().to_json(),
        }
        if self.settings.get("logprobs"):
            record["logprobs"] = logprob_records(reply.logprobs, self.model.tokenizer)
        return record


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
