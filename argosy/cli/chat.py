"""Run `argosy chat`: a conversation, a single answer, or answers to piped lines."""

from __future__ import annotations

import math
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from argosy.cli import console
from argosy.cli.base import command as argosy_command
from argosy.cli.base import run_only
from argosy.support.errors import UsageError

if TYPE_CHECKING:
    from argosy.cli.talk import Talk

# Options that are generation settings under the same name: (type, help). The runtime checks their ranges.
SAMPLING: dict[str, tuple[type, str]] = {
    "temperature": (float, "0 always takes the most likely token; higher values vary more."),
    "top_p": (float, "Keep the most likely tokens that hold this share of the probability."),
    "top_k": (int, "Keep this many of the most likely tokens; 0 keeps all."),
    "min_p": (float, "Keep tokens at least this likely, relative to the most likely one."),
    "typical_p": (float, "Keep the tokens closest to the expected surprise that hold this share."),
    "repetition_penalty": (float, "Divide the logits of tokens seen before; 1 is off."),
    "presence_penalty": (float, "Subtract this from the logits of tokens seen before."),
    "frequency_penalty": (float, "Subtract this for each time a token was seen."),
    "repeat_last_n": (int, "How many tokens back the penalties look; -1 is all."),
    "seed": (int, "The same seed gives the same answer."),
    "max_tokens": (int, "End an answer after this many tokens.  [default: 1024]"),
}


class LogitBias(click.ParamType):
    """`ID=BIAS`: a token id and the number to add to its logit; `-inf` bans the token."""

    name = "id=bias"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, float]:
        token, _, bias = str(value).partition("=")
        try:
            number = (int(token), float(bias))
        except ValueError:
            self.fail(f"`{value}` is not a token id, `=` and a number", param, ctx)
        if math.isnan(number[1]):
            self.fail(f"`{value}` is not a token id, `=` and a number", param, ctx)
        return number


def sampling_options(function: Any) -> Any:
    """Add the options of `SAMPLING`, and the repeatable ones, to a command."""
    function = click.option(
        "--logit-bias", type=LogitBias(), multiple=True, metavar="ID=BIAS",
        help="Add BIAS to the logit of token ID; -inf bans it.  [several times]",
    )(function)  # fmt: skip
    function = click.option(
        "--stop", multiple=True, metavar="TEXT", help="End an answer before this text.  [several times]"
    )(function)
    for name, (kind, text) in reversed(SAMPLING.items()):
        metavar = "N" if kind is int else "X"
        function = click.option(f"--{name.replace('_', '-')}", type=kind, metavar=metavar, help=text)(function)
    return function


@argosy_command(
    "chat",
    examples=[
        "argosy chat dist/out/smollm2-135m-q4f16_1",
        'argosy chat smollm2-135m --prompt "What is the capital of France?" --temperature 0',
        'echo "What is the meaning of life?" | argosy chat smollm2-135m --json',
    ],
)
@click.argument("artefact", metavar="DIR|MODEL")
@click.option("--prompt", "-p", metavar="TEXT", help="Answer this prompt and exit; - reads all of stdin as one prompt.")
@click.option("--system", metavar="TEXT", help="The system prompt, instead of the model's own.")
@sampling_options
@click.option(
    "--on-context-full",
    type=click.Choice(["stop", "slide"]),
    help="When the context window is full, end the answer or forget the oldest turns.  [default: stop]",
)
@click.option(
    "--context-window",
    type=int,
    metavar="N",
    help="Use a smaller context window than the model was built for, to save memory.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of threads to compute with.  [default: one per core]",
)
@click.option(
    "--cache-packed",
    is_flag=True,
    help="Keep the weights beside the artefact in the library's own layout: starts faster, doubles the disk space.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print each answer as one line of JSON: text, finish_reason, stats."
)
@click.pass_context
def command(
    ctx: click.Context, artefact: str, prompt: str | None, system: str | None, context_window: int | None,
    threads: int | None, cache_packed: bool, as_json: bool, **settings: Any,
) -> None:  # fmt: skip
    """Chat with a model that was built.

    At a terminal this is a conversation; /help lists its commands. With --prompt it is a single answer. If stdin is a
    pipe, each of its lines is one turn of a conversation.
    """
    from argosy.dist.store import find_artefact

    if as_json and prompt is None and console.is_terminal():
        raise UsageError("`--json` needs a prompt", "--prompt TEXT, or a pipe: echo TEXT | argosy chat DIR --json")
    directory = find_artefact(artefact)
    if prompt == "-":
        prompt = console.read_text(sys.stdin).strip("\n")
    run_only(ctx)
    from argosy.cli.talk import Talk
    from argosy.runtime_bindings.chat.module import ChatModule

    with warnings.catch_warnings(record=True) as caught:
        model = ChatModule(
            directory, threads=threads, system=system, context_window_size=context_window, cache_packed=cache_packed
        )
    for warning in caught:
        console.say(f"note: {warning.message}")
    talk = Talk(model, _given(settings), as_json)
    if prompt is not None:
        talk.answer(prompt)
    else:
        ctx.exit(_converse(talk))


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given; the model's defaults apply to all others."""
    values = settings | {"logit_bias": dict(settings["logit_bias"])}
    return {name: value for name, value in values.items() if value not in (None, (), {})}


def _converse(talk: Talk) -> int:
    """Hold a conversation to its end, and return the exit code."""
    from argosy.cli.repl import Repl, pipe_reader, terminal_reader

    if not console.is_terminal():
        return Repl(talk, pipe_reader(sys.stdin)).run()
    model = talk.model
    talk.stop_loops = True
    console.say(f"{model.artefact.name}, {model.stats().context_window} tokens of context; /help lists commands")
    if model.completes_only:
        console.say("(this model has no chat template: it continues texts, and each prompt stands alone)")
    Repl(talk, terminal_reader()).run()
    return 0  # at a terminal, every error was seen and answered
