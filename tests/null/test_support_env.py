"""Environment variables are typed, bad values are refused, and they set the threads of TVM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from argosy.support import env, threads
from argosy.support.errors import UsageError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ARGOSY_") or name in ("NO_COLOR", "TVM_NUM_THREADS"):
            monkeypatch.delenv(name)


def test_defaults() -> None:
    assert [variable.get() for variable in env.VARIABLES] == [None, None, None, None, (), "auto", False, False, False]
    env.check_environment()


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        (env.THREADS, "4", 4), (env.THREADS, " 1024 ", 1024), (env.DIST, "some/where", Path("some/where")),
        (env.PROGRESS, "Lines", "lines"), (env.NO_COLOR, "yes", True), (env.DEBUG, "0", False),
        (env.THREADS, "", None),
    ],
)  # fmt: skip
def test_good_values(monkeypatch: pytest.MonkeyPatch, variable: env.Variable[object], text: str, value: object) -> None:
    monkeypatch.setenv(variable.name, text)
    assert variable.get() == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [(env.THREADS, text) for text in ("0", "-1", "1025", "two", "1.5")] + [(env.PROGRESS, "loud"), (env.DEBUG, "2")],
)
def test_bad_values(monkeypatch: pytest.MonkeyPatch, variable: env.Variable[object], text: str) -> None:
    monkeypatch.setenv(variable.name, text)
    for ask in (variable.get, env.check_environment):
        with pytest.raises(UsageError, match=f"{variable.name} has the value `{text}`") as caught:
            ask()
        assert caught.value.hint == f"allowed: {variable.allowed}"


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_THREAD", "4")
    with pytest.raises(UsageError, match="ARGOSY_THREAD`") as caught:
        env.check_environment()
    assert caught.value.hint is not None and caught.value.hint.startswith("did you mean `ARGOSY_THREADS`")


def test_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    assert env.colour_wanted()
    monkeypatch.setenv("NO_COLOR", "0")  # any value counts, says no-color.org
    assert not env.colour_wanted()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("ARGOSY_NO_COLOR", "1")
    assert not env.colour_wanted()


def test_the_table_names_every_variable() -> None:
    table = env.markdown_table()
    assert all(f"| `{variable.name}` |" in table for variable in env.VARIABLES)
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_threads_follow_argosy_then_tvm_then_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_NUM_THREADS", "3")
    assert threads.set_tvm_threads() == 3
    monkeypatch.setenv("ARGOSY_THREADS", "5")
    assert threads.set_tvm_threads() == 5 and os.environ["TVM_NUM_THREADS"] == "5"
    monkeypatch.delenv("ARGOSY_THREADS")
    monkeypatch.setenv("TVM_NUM_THREADS", "many")
    assert 1 <= threads.set_tvm_threads() <= (os.cpu_count() or 1)
