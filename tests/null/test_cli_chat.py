"""Chats on the command line with a model that is a few lines of Python: turns, /commands, Ctrl-C, pipes, JSON."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from argosy.cli import sampling
from argosy.cli.app import cli
from argosy.cli.repl import Repl
from argosy.cli.talk import Talk
from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.module import ChatModule
from argosy.runtime_bindings.engine.request import RequestStats
from argosy.support.errors import ContextFullError


@dataclass
class FakeReply:
    text: str
    finish_reason: str = "stop"
    tokens: tuple[int, ...] = (1, 2)
    prompt_tokens: int = 3
    stats: RequestStats = field(default_factory=RequestStats)


class FakeStats:
    def __str__(self) -> str:
        return "decode: 7 tok/s"

    def to_json(self) -> dict[str, object]:
        return {"threads": 1}


class FakeModel:
    """A model that echoes prompts, and records them with their system prompt."""

    completes_only = False

    def __init__(self) -> None:
        config = SimpleNamespace(context_window_size=8, model_type="toy", quantization="q0f32")
        self.artefact = SimpleNamespace(name="toy-q0f32", config=config, manifest=None, directory=Path("toy-q0f32"))
        self.model = SimpleNamespace(context_window=8)
        self.tokenizer = SimpleNamespace(config={"chat_template": "{{ messages }}"})
        self.default_config = GenerationConfig(temperature=0.5)
        self.messages: list[dict[str, str]] = []
        self.asked: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.resets: list[str | None] = []
        self.last: FakeReply | None = None
        self.cancelled = False
        self.interrupts = 0

    def generate(self, prompt: str, generation_config: dict[str, Any], stream: bool) -> Iterator[str]:
        if prompt == "too long":
            raise ContextFullError("the prompt has `9` tokens, and the context window holds 8", "shorten it")
        self.asked.append(prompt)
        self.settings.append(generation_config)
        self.cancelled = False
        text = ""
        for piece in ("you said: ", prompt):
            for _ in range(self.interrupts):
                os.kill(os.getpid(), signal.SIGINT)
            if self.cancelled:
                break
            text += piece
            yield piece
        self.last = FakeReply(text, "cancelled" if self.cancelled else "stop")

    def cancel(self) -> None:
        self.cancelled = True

    def reset_chat(self, system: str | None = None) -> None:
        self.resets.append(system)

    def stats(self) -> FakeStats:
        return FakeStats()


def converse(model: FakeModel, *lines: str | BaseException) -> int:
    """Hold a conversation of these lines; an exception is raised in place of a line."""
    script = iter(lines)

    def read(prompt: str) -> str:
        line = next(script, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    return Repl(Talk(model, {"top_k": 3}, as_json=False), read).run()  # type: ignore[arg-type]


def test_turns_and_commands(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, "one", "", "/stats", "/reset", "/system be brief", "/system", "two", "/exit", "three") == 0
    assert model.asked == ["one", "two"] and model.settings == [{"top_k": 3}] * 2
    assert model.resets == [None, "be brief", ""]
    said = capsys.readouterr()
    assert said.out == "you said: one\nyou said: two\n"
    assert "decode: 7 tok/s" in said.err


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    converse(FakeModel(), "/help")
    text = capsys.readouterr().err
    assert all(word in text for word in ("/help", "/stats", "/reset", "/system TEXT", "/exit", "Ctrl-C", "Ctrl-D"))


def test_a_mistyped_command_is_not_a_prompt(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, "/stast", "/etc/hosts is a file") == 1
    assert model.asked == ["/etc/hosts is a file"]
    hint = "did you mean `/stats` or `/system` or `/set`?"
    assert capsys.readouterr().err == f"error: no such command `/stast`\nhint: {hint}\n"


def test_an_error_ends_the_turn_and_not_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, "too long", "short") == 1
    assert model.asked == ["short"]
    assert capsys.readouterr().err.startswith("error: the prompt has `9` tokens")


def test_several_lines_between_quotes() -> None:
    model = FakeModel()
    converse(model, '"""a', "/reset", 'b"""', '"""one line"""', '"""', "c", '"""')
    assert model.asked == ["a\n/reset\nb", "one line", "c"] and model.resets == []


def test_ctrl_c_at_the_prompt_does_not_end_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, KeyboardInterrupt(), "one") == 0
    assert model.asked == ["one"] and "Ctrl-D" in capsys.readouterr().err


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    model.interrupts = 1
    assert converse(model, "one", "two") == 0
    assert model.asked == ["one", "two"]
    assert "(stopped)" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_takes_the_turn_back(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    model.interrupts = 2
    assert converse(model, "one") == 0
    assert model.last is None and "Ctrl-D" in capsys.readouterr().err


def test_an_answer_that_repeats_itself_is_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    """At a terminal, where nobody waits for a script's output: a loop fills the screen until --max-tokens."""
    model = FakeModel()
    talk = Talk(model, {}, as_json=False, stop_loops=True)  # type: ignore[arg-type]
    talk.answer("It is what it is, as I have said before. " * 40)
    said = capsys.readouterr()
    assert model.cancelled and "over and over" in said.err
    talk.answer("It is what it is. ")
    assert "(" not in capsys.readouterr().err


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr("argosy.runtime_bindings.chat.module.ChatModule", lambda *args, **more: fake)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artefact").mkdir()
    return fake


def invoke(*args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli, ["chat", "artefact", *args], input=stdin)


def test_each_line_of_a_pipe_is_a_turn(model: FakeModel) -> None:
    result = invoke(stdin="one\r\ntwo\n\n/exit\nthree")
    assert result.exit_code == 0 and model.asked == ["one", "two"]
    assert result.stdout == "you said: one\nyou said: two\n" and result.stderr == ""


def test_a_prompt_is_answered_once(model: FakeModel) -> None:
    result = invoke("--prompt", "/reset is no command here", "--temperature", "0", "--stop", "a", "--stop", "b",
                    "--logit-bias", "7=-inf", "--logit-bias", "8=1.5", "--on-context-full", "slide")  # fmt: skip
    assert result.exit_code == 0 and model.asked == ["/reset is no command here"] and model.resets == []
    bias = {7: -float("inf"), 8: 1.5}
    wanted = {"temperature": 0.0, "stop": ("a", "b"), "logit_bias": bias, "on_context_full": "slide"}
    assert model.settings == [wanted]


def test_a_prompt_from_stdin_may_have_several_lines(model: FakeModel) -> None:
    assert invoke("--prompt", "-", stdin="one\ntwo\n").exit_code == 0
    assert model.asked == ["one\ntwo"]


def test_json_is_one_line_for_each_answer(model: FakeModel) -> None:
    result = invoke("--json", stdin="one\ntwo\n")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["text"] for record in records] == ["you said: one", "you said: two"]
    wanted = {"text", "finish_reason", "prompt_tokens", "completion_tokens", "stats"}
    assert set(records[0]) == wanted and records[0]["finish_reason"] == "stop"


@pytest.mark.parametrize("text", ["x=1", "1", "1=x", "1=nan", "="])
def test_a_malformed_logit_bias_is_refused(model: FakeModel, text: str) -> None:
    result = invoke("--prompt", "one", "--logit-bias", text)
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and f"`{text}`" in result.stderr
    assert model.asked == []


def test_every_sampling_option_is_a_setting_of_the_runtime() -> None:
    from argosy.runtime_bindings.chat.generation import GenerationConfig

    known = set(GenerationConfig.__dataclass_fields__)
    assert {*sampling.SAMPLING, "stop", "logit_bias", "on_context_full"} <= known
    assert ChatModule.generate.__kwdefaults__["stream"] is False


def test_control_characters_do_not_reach_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    converse(FakeModel(), "a\x1b[2Jb\tc")
    assert "\x1b" not in capsys.readouterr().out


def not_built(*args: str) -> str:
    result = CliRunner().invoke(cli, list(args))
    assert result.exit_code == 1 and result.stdout == "" and len(result.stderr.splitlines()) == 2, result.output
    return result.stderr


def test_what_is_not_built_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ARGOSY_DIST", "built")
    text = not_built("chat", "smollm2-135m", "--prompt", "hi")
    assert "hint: argosy build --model smollm2-135m --target cpu --quantization q4f16_1" in text
    assert "`smollm2-135m`" in not_built("chat", "smollm2-13m", "--prompt", "hi")
    assert "`nothing`" in not_built("chat", "./nothing", "--prompt", "hi")
    (tmp_path / "empty").mkdir()
    assert "`empty`" in not_built("chat", "empty", "--prompt", "hi")
    assert "`smollm2-13m`" in not_built("eval", "smollm2-13m")
