"""Define what commands share: a class with examples in its help, parameter types, and recurring options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from argosy.cli.console import decide_colors
from argosy.support.errors import UsageError
from argosy.support.text import did_you_mean


def _set_no_color(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value or ctx.parent is None:  # without the flag, a command keeps what the root decided
        decide_colors(value)


no_color_option = click.option(
    "--no-color",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_no_color,
    help="No colours and no bold; the environment variable NO_COLOR does the same.",
)


def with_dashes(option: str) -> str:
    """Spell an option with dashes; people write `--top_p` too."""
    return option.replace("_", "-")


def run_only(ctx: click.Context) -> None:
    """Load TVM without its compiler, for a command that never compiles and has a process of its own."""
    if ctx.find_root().obj is not None:
        from argosy.runtime_bindings.engine.tvm_runtime import use_runtime_only

        use_runtime_only()


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


class ArgosyCommand(click.Command):
    """A command with --no-color, and with `examples` (whole command lines) at the end of its help."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.context_settings.setdefault("token_normalize_func", with_dashes)
        no_color_option(self)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.write_examples(self.examples, formatter)

    @staticmethod
    def write_examples(examples: Iterable[str], formatter: click.HelpFormatter) -> None:
        """Add a section with one command line per line, however long."""
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{' ' * formatter.current_indent}{example}\n")


def command(name: str, examples: Sequence[str]) -> Callable[[Callable[..., None]], ArgosyCommand]:
    """Return the decorator that makes a function an `ArgosyCommand`, as `click.command` does."""

    def wrap(function: Callable[..., None]) -> ArgosyCommand:
        made = click.command(name, cls=ArgosyCommand, examples=examples)(function)
        assert isinstance(made, ArgosyCommand)
        return made

    return wrap


class Choice(click.ParamType):
    """One of a table's names; `names` is called only to check a value, so that help pages import nothing heavy."""

    name = "name"

    def __init__(self, what: str, names: Callable[[], Iterable[str]]) -> None:
        self.what = what
        self.names = names

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        names = list(self.names())
        if value in names:
            return str(value)
        raise UsageError(f"unknown {self.what} `{value}`", did_you_mean(str(value), names))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        done, comma, last = incomplete.rpartition(",") if isinstance(self, Choices) else ("", "", incomplete)
        return [CompletionItem(f"{done}{comma}{name}") for name in self.names() if name.startswith(last)]


class ModelName(click.ParamType):
    """A model or an artefact. Shells complete the names of what is built and of the catalogue, and files."""

    name = "model"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from argosy.dist.catalogue import CATALOGUE
        from argosy.dist.store import known_artefacts

        names = dict.fromkeys([*(path.name for path in known_artefacts()), *CATALOGUE])
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class Threads(click.ParamType):
    """A number of threads. Some programs call the temperature `-t`, so a fraction is pointed to `--temp`."""

    name = "n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            count = int(value)
        except ValueError:
            raise UsageError(
                f"`{value}` is not a number of threads", "`--threads` takes 1 or more; `--temp` is the temperature"
            ) from None
        if not 1 <= count <= 1024:
            raise UsageError(f"`--threads {count}` is not possible", "`--threads` takes 1 to 1024")
        return count


class Choices(Choice):
    """One or more of a table's names, separated by commas."""

    name = "name,name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        words = value if isinstance(value, tuple) else [word.strip() for word in str(value).split(",")]
        return tuple(super(Choices, self).convert(word, param, ctx) for word in words)
