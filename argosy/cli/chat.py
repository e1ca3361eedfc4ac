"""`argosy chat`: a conversation, a single answer, or answers to piped lines."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from argosy.cli import console
from argosy.cli.base import ModelName, Threads, run_only
from argosy.cli.base import command as argosy_command
from argosy.cli.failures import INTERRUPTED
from argosy.cli.sampling import sampling_options
from argosy.support.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from argosy.cli.talk import Talk
    from argosy.runtime_bindings.chat.module import ChatModule


def chat_options(function: Any) -> Any:
    """Add the arguments and options of `argosy chat` to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.argument("model", type=ModelName(), metavar="MODEL", required=False),
    click.argument("words", metavar="[PROMPT]", nargs=-1),
    click.option(
        "--model", "-m", "named", type=ModelName(), metavar="MODEL", help="The model, if it is not the first argument.",
    ),
    click.option(
        "--prompt", "-p", metavar="TEXT",
        help="Answer this prompt and exit, like the words after MODEL. What a pipe holds is put before it; - is the "
        "pipe alone.",
    ),
    click.option("--system", "-s", metavar="TEXT", help="The system prompt, instead of the model's own."),
    sampling_options,
    click.option(
        "--on-context-full", type=click.Choice(["stop", "slide"]),
        help="When the context window is full, end the answer or forget the oldest turns.  [default: stop]",
    ),
    click.option(
        "--context-window", "-c", type=click.IntRange(min=2), metavar="N",
        help="Use a smaller context window than the model was built for, to save memory.",
    ),
    click.option(
        "--threads", "-t", type=Threads(), metavar="N",
        help="Number of threads to compute with.  [default: one per core]",
    ),
    click.option(
        "--cache-packed", is_flag=True,
        help="Keep the weights beside the artefact in the library's own layout: starts faster, doubles the disk space.",
    ),
    click.option("--verbose", "-v", is_flag=True, help="Show speed and memory below every answer."),
    click.option("--no-wrap", is_flag=True, help="Do not break the lines of answers between words at a terminal."),
    click.option(
        "--json", "as_json", is_flag=True, help="Print each answer as one line of JSON: text, finish_reason, stats."
    ),
)  # fmt: skip


def _which(command: str | None) -> str:
    if command == "run":
        from argosy.cli.obtain import CHECKPOINTS

        return f"argosy run MODEL, which is a name of `argosy ls`, or {CHECKPOINTS}"
    return f"argosy {command} MODEL; `argosy ls` lists what is built"


@argosy_command(
    "chat",
    examples=[
        "argosy chat smollm2-135m",
        'argosy chat smollm2-135m "What is the capital of France?" --temp 0',
        "cat notes.txt | argosy chat smollm2-135m -p 'Summarise this.'",
        'echo "What is the meaning of life?" | argosy chat smollm2-135m --json',
    ],
)
@chat_options
@click.option("--yes", "-y", is_flag=True, help="Build the model first if it is not built yet, without asking.")
@click.pass_context
def command(ctx: click.Context, yes: bool, **choices: Any) -> None:
    """Chat with a model.

    MODEL is a name of `argosy ls`, or a checkpoint or a name of `argosy list models`, which can be built first. At a
    terminal this is a conversation; /help lists its commands. With a prompt it is a single answer. If stdin is a pipe,
    each of its lines is one turn of a conversation.
    """
    chat(ctx, builds=yes, **choices)


def chat(
    ctx: click.Context, builds: bool, model: str | None, words: tuple[str, ...], named: str | None, prompt: str | None,
    system: str | None, context_window: int | None, threads: int | None, cache_packed: bool, verbose: bool,
    no_wrap: bool, as_json: bool, **settings: Any,
) -> None:  # fmt: skip
    """Run `argosy chat` or `argosy run`, which differ in whether they build without asking."""
    from argosy.cli.obtain import artefact_for
    from argosy.cli.prompts import prompt_of
    from argosy.cli.sampling import given_settings

    if named is not None:
        words = (model, *words) if model is not None else words
        model = named
    if model is None:
        raise UsageError("a model is missing", _which(ctx.info_name))
    given = given_settings(settings)
    asks = prompt is not None or bool(words)
    if as_json and not asks and console.is_terminal(sys.stdin):
        raise UsageError("`--json` needs a prompt", f"argosy {ctx.info_name} {model} PROMPT --json, or a pipe")
    directory = artefact_for(model, builds)
    text = prompt_of(prompt, words)
    run_only(ctx)
    options = {"threads": threads, "context_window_size": context_window, "cache_packed": cache_packed}
    from argosy.cli.talk import Talk

    talk = Talk(load(directory, system, options), given, as_json)
    talk.verbose, talk.wordwrap = verbose, not no_wrap
    if text is not None:
        answer_once(talk, text)
        ctx.exit(INTERRUPTED if talk.interrupted else 0)
    else:
        ctx.exit(_converse(talk, directory, system, options))


def load(directory: Path, system: str | None, options: dict[str, Any]) -> ChatModule:
    """Load the artefact in `directory`, with a line while that lasts."""
    from argosy.cli.limits import check_window
    from argosy.cli.waiting import waiting
    from argosy.runtime_bindings.chat.module import ChatModule

    check_window(directory, options.get("context_window_size"))
    with warnings.catch_warnings(record=True) as caught, waiting(f"loading {directory.name}"):
        model = ChatModule(directory, system=system, **options)
    for warning in caught:
        console.say(f"note: {warning.message}")
    return model


def answer_once(talk: Talk, text: str) -> None:
    """Answer one prompt, and say what helps if it is too long."""
    from argosy.cli.limits import explained

    with explained(talk.model):
        talk.answer(text)


def _converse(talk: Talk, directory: Path, system: str | None, options: dict[str, Any]) -> int:
    """Hold a conversation to its end, and return the exit code."""
    from argosy.cli.readers import pipe_reader, terminal_reader
    from argosy.cli.repl import Repl

    if not console.is_terminal(sys.stdin):
        talk.ends_when_interrupted = True
        return Repl(talk, pipe_reader(sys.stdin), system=system).run()
    talk.stop_loops = talk.in_conversation = True
    with terminal_reader() as read:
        repl = Repl(talk, read, system=system, at_terminal=True, load=lambda path, text: load(path, text, options))
        repl.greet()
        repl.run()
    return 0  # at a terminal, every error was seen and answered
