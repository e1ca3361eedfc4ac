"""Every command has a help page, with examples that its parser accepts."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from argosy.cli.app import COMMANDS, EXAMPLES, cli
from argosy.cli.base import ArgosyCommand


def command_named(name: str) -> ArgosyCommand:
    found = cli.get_command(click.Context(cli), name)
    assert isinstance(found, ArgosyCommand)
    return found


def parse(line: str) -> click.Context:
    """Parse the example `argosy NAME ...`, up to what belongs to the shell; click raises an error if that fails."""
    words = shlex.split(re.split(" && | >+ ", line)[0])
    assert words[0] == "argosy"
    return command_named(words[1]).make_context(words[1], words[2:])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0
    page = command_named(name)
    assert page.help and page.help.strip().splitlines()[0].endswith((".", ":"))
    for example in page.examples:
        assert f"  {example}\n" in result.stdout
    for option in page.params:
        if isinstance(option, click.Option):
            assert option.help, f"{name} {option.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_examples_of_a_command_parse(name: str) -> None:
    assert command_named(name).examples
    for example in command_named(name).examples:
        assert re.search(rf"\bargosy {name}\b", example)
        if "|" not in example:
            parse(example)


def test_the_root_lists_every_command_with_a_line() -> None:
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name}\s+\w+", result.stdout, re.MULTILINE)
    for example in EXAMPLES:
        parse(example)
        assert example in result.stdout


def test_h_is_help() -> None:
    assert CliRunner().invoke(cli, ["-h"]).stdout == CliRunner().invoke(cli, ["--help"]).stdout


def test_version() -> None:
    result = CliRunner().invoke(cli, ["--version"])
    assert result.exit_code == 0 and re.fullmatch(r"argosy \d+\.\d+\.\d+\S*\n", result.stdout)
