"""Define the root command, which imports a command's module on first use and reports every failure in one form."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from argosy.cli.base import ArgosyCommand, no_color_option, with_dashes
from argosy.cli.failures import broken_pipe_kept, guarded
from argosy.cli.words import INSTEAD, SAME
from argosy.support.env import check_environment
from argosy.support.errors import UsageError
from argosy.support.text import did_you_mean, one_line

# Name -> module that defines a click command called `command`, in the order in which a newcomer needs them.
COMMANDS: dict[str, str] = {
    "build": "argosy.cli.build",
    "chat": "argosy.cli.chat",
    "run": "argosy.cli.run",
    "web": "argosy.cli.web",
    "ls": "argosy.cli.ls",
    "rm": "argosy.cli.remove",
    "list": "argosy.cli.listing",
    "doctor": "argosy.cli.doctor",
    "convert": "argosy.cli.convert",
    "config": "argosy.cli.config",
    "compile": "argosy.cli.compile",
    "eval": "argosy.cli.evaluate",
    "bench": "argosy.cli.bench",
    "inspect": "argosy.cli.inspect",
    "verify": "argosy.cli.verify",
    "sign": "argosy.cli.sign",
    "tokenize": "argosy.cli.tokenize",
    "pull": "argosy.cli.pull",
    "ps": "argosy.cli.ps",
    "serve": "argosy.cli.serve",
    "completion": "argosy.cli.completion",
    "help": "argosy.cli.help",
}

EXAMPLES = (
    "argosy run smollm2-135m",
    "argosy build --model ./Qwen3-0.6B --quantization q8f16_1",
    'argosy chat Qwen3-0.6B "Why is the sky blue?"',
    "argosy doctor",
)


class RootCommand(click.Group):
    """A group that imports commands on first use and never shows a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = SAME.get(cmd_name, cmd_name)
        return importlib.import_module(COMMANDS[name]).command if name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0] if args else ""
        if word in INSTEAD:
            raise UsageError(f"no such command `{one_line(word)}`", INSTEAD[word])
        if word and word not in COMMANDS and word not in SAME and not word.startswith("-"):
            raise UsageError(f"no such command `{one_line(word)}`", did_you_mean(word, COMMANDS))
        return super().resolve_command(ctx, args)

    # Click's overloads distinguish the values of `standalone_mode`, which is not the caller's choice here.
    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run the command line and exit with its exit code."""
        extra["standalone_mode"] = False
        sys.exit(guarded(lambda: super(RootCommand, self).main(args, prog_name, **extra)))

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with broken_pipe_kept():  # of help pages
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with broken_pipe_kept():
            return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        ArgosyCommand.write_examples(EXAMPLES, formatter)


def _show_version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    click.echo(f"argosy {version('argosy')}")
    ctx.exit()


@click.group(
    "argosy",
    cls=RootCommand,
    invoke_without_command=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "token_normalize_func": with_dashes,
    },
)
@click.option(
    "--version",
    "-V",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@no_color_option
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Compile a language model once, run it on your devices."""
    check_environment()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
