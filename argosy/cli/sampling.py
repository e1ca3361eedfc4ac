"""Define the options that set how an answer is generated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import click

from argosy.support.errors import RequestError, UsageError

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
    "max_tokens": (int, "End an answer after this many tokens."),
    "top_logprobs": (int, "With --logprobs, report this many of the likeliest tokens beside each one."),
}
# Shorter or other spellings of these options.
SPELLINGS: dict[str, tuple[str, ...]] = {"temperature": ("--temp",), "max_tokens": ("-n",)}


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
        "--logprobs", is_flag=True, help="Report the log-probability of every token: in --json, else below the answer."
    )(function)
    function = click.option(
        "--logit-bias", type=LogitBias(), multiple=True, metavar="ID=BIAS",
        help="Add BIAS to the logit of token ID; -inf bans it.  [several times]",
    )(function)  # fmt: skip
    function = click.option(
        "--stop", multiple=True, metavar="TEXT", help="End an answer before this text.  [several times]"
    )(function)
    for name, (kind, text) in reversed(SAMPLING.items()):
        metavar = "N" if kind is int else "X"
        names = (f"--{name.replace('_', '-')}", *SPELLINGS.get(name, ()))
        function = click.option(*names, name, type=kind, metavar=metavar, help=text)(function)
    return function


def given_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given; the model's defaults apply to all others.

    Raises UsageError for a value out of its range, before a model is loaded.
    """
    from argosy.runtime_bindings.chat.generation import GenerationConfig

    values = {**settings, "logit_bias": dict(settings["logit_bias"])}
    given = {name: value for name, value in values.items() if value not in (None, (), {}) and value is not False}
    if "top_logprobs" in given:
        given["logprobs"] = True
    try:
        GenerationConfig(**given)
    except RequestError as error:
        raise UsageError(error.message, error.hint) from None
    return given
