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
from argosy.runtime_bindings.engine.sampler import TokenLogprob
from argosy.support.errors import ContextFullError


@dataclass
class FakeReply:
    text: str
    finish_reason: str = "stop"
    tokens: tuple[int, ...] = (1, 2)
    prompt_tokens: int = 3
    stats: RequestStats = field(default_factory=RequestStats)


class FakeStats:
    context_tokens, context_window, target, threads = 3, 8, "cpu", 1

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
        self.asked: list[Any] = []
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
        for piece in ("you said: ", str(prompt)):
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
    assert "hint: argosy build --model smollm2-135m --target cpu --quantization keep" in text
    assert "`smollm2-135m`" in not_built("chat", "smollm2-13m", "--prompt", "hi")
    assert "`nothing`" in not_built("chat", "./nothing", "--prompt", "hi")
    (tmp_path / "empty").mkdir()
    assert "`empty`" in not_built("chat", "empty", "--prompt", "hi")
    assert "`smollm2-13m`" in not_built("eval", "smollm2-13m")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ARGOSY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def said(capsys: pytest.CaptureFixture[str], *lines: str) -> str:
    converse(FakeModel(), *lines)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    ["/set temperature 0.25", "/set temp 0.25", "/set temperature=0.25", "/set temperature = 0.25", "/SET temp .25",
     "/set parameter temperature 0.25", "/set seed=3;temperature=0.25"],
)  # fmt: skip
def test_a_setting_is_changed_as_in_other_programs(line: str) -> None:
    model = FakeModel()
    assert converse(model, line, "one") == 0
    assert model.settings[0]["temperature"] == 0.25 and model.settings[0]["top_k"] == 3


def test_settings_are_checked_shown_and_reset(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, "/set temperature 500", "/set temperatur 1", "/set num_ctx 10", "/set seed x") == 1
    text = capsys.readouterr().err
    assert "`temperature=500`" in text and "did you mean `temperature`" in text and "--context-window" in text
    assert "Traceback" not in text
    assert converse(model, "/set stop END", "/set num_predict 7", "/set top_k default", "/set", "one") == 0
    text = capsys.readouterr().err
    assert 'stop                   ["END"]  (changed)' in text and "max_tokens             7  (changed)" in text
    assert model.settings[-1] == {"stop": ("END",), "max_tokens": 7}


def test_set_system_and_switches(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, "/set system be brief", "/show system", "/set verbose", "one", "/set quiet", "two") == 0
    text = capsys.readouterr().err
    assert model.resets == ["be brief"] and "be brief" in text and text.count("decode: 7 tok/s") == 1


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit", "/BYE", "/bye "])
def test_words_that_end_a_conversation(word: str) -> None:
    model = FakeModel()
    assert converse(model, word, "one") == 0 and model.asked == []


def test_a_bare_exit_ends_a_conversation_at_a_terminal_only() -> None:
    model = FakeModel()
    converse(model, "exit")
    assert model.asked == ["exit"]
    lines = iter(["exit", "one"])
    Repl(Talk(model, {}, as_json=False), lambda prompt: next(lines), at_terminal=True).run()  # type: ignore[arg-type]
    assert model.asked == ["exit"]


def test_clear_and_help_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    assert converse(model, "/clear", "/?", "/? set", "/show", "/show template", "/show parameters", "/show x") == 1
    text = capsys.readouterr().err
    assert model.resets == [None] and text.count("/help") >= 1 and "/set temperature default" in text
    assert "toy-q0f32" in text and "{{ messages }}" in text and "top_k" in text and "no `x` to show" in text
    assert "context    0 of 8 tokens" in text, "a cache that still holds a forgotten conversation is not its context"


def test_a_conversation_is_saved_and_continued(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = FakeModel()
    model.messages = [{"role": "user", "content": "héllo"}, {"role": "assistant", "content": "well"}]
    assert converse(model, "/system be brief", "/set seed 5", "/save mine", "/save mine") == 0
    file = home / "conversations" / "mine.json"
    assert file.stat().st_mode & 0o077 == 0 and json.loads(file.read_text())["model"] == "toy-q0f32"
    assert "in place of the one before" in capsys.readouterr().err
    other = FakeModel()
    assert converse(other, "/load mine", "/show messages", "/show", "more", "again") == 0
    turns = [{"role": "system", "content": "be brief"}, *model.messages, {"role": "user", "content": "more"}]
    assert other.asked == [turns, "again"] and other.settings[0] == {"top_k": 3, "seed": 5}
    shown = capsys.readouterr().err
    assert "user: héllo" in shown and "context    0 of 8 tokens, 3 messages to read" in shown


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "x\x1b", "a" * 100])
def test_a_conversation_has_a_plain_name(home: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert converse(FakeModel(), f"/save {name}") != 0
    assert not home.exists() and "\x1b" not in capsys.readouterr().err


def test_a_home_that_cannot_be_written_ends_no_conversation(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.write_text("a file where the directory should be")
    model = FakeModel()
    assert converse(model, "/save mine", "/load mine", "one") == 1
    assert model.asked == ["one"] and "cannot be written" in capsys.readouterr().err


def test_a_damaged_conversation_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "conversations").mkdir(parents=True)
    for number, text in enumerate(('{"model": 1}', "no JSON", "[]", '{"a": 1, "a": 2}', "")):
        (home / "conversations" / f"c{number}.json").write_text(text)
        assert converse(FakeModel(), f"/load c{number}") == 1
    assert converse(FakeModel(), "/load nothing") == 1
    text = capsys.readouterr().err
    assert "Traceback" not in text and "no saved conversation `nothing`" in text


def test_the_prompt_follows_the_model(model: FakeModel) -> None:
    assert invoke("what", "is this").exit_code == 0
    assert CliRunner().invoke(cli, ["chat", "--model", "artefact", "hello"], input="").exit_code == 0
    assert CliRunner().invoke(cli, ["chat", "hello", "-m", "artefact"], input="").exit_code == 0
    assert CliRunner().invoke(cli, ["run", "artefact", "hello"], input="").exit_code == 0
    assert model.asked == ["what is this", "hello", "hello", "hello"]
    assert invoke("one", "--prompt", "two").exit_code == 2


def test_a_pipe_is_put_before_the_prompt(model: FakeModel) -> None:
    assert invoke("-p", "Summarise this.", stdin="line one\nline two\n").exit_code == 0
    assert invoke("Summarise this.", stdin="\ufeffline\n").exit_code == 0
    assert model.asked == ["line one\nline two\n\nSummarise this.", "line\n\nSummarise this."]


def test_bytes_that_are_no_text_are_refused(model: FakeModel) -> None:
    for args in ([], ["-p", "x"], ["-p", "-"]):
        result = CliRunner().invoke(cli, ["chat", "artefact", *args], input=b"\xff\xfe")
        assert result.exit_code == 2 and "is not text in `utf-8`: it has the byte `0xff`" in result.stderr, args
    assert model.asked == []


def test_other_spellings_of_options(model: FakeModel) -> None:
    given = ("--temp", "0", "--top_p", "0.5", "-n", "9", "-s", "be brief", "-t", "2")
    assert invoke("hi", *given).exit_code == 0
    assert model.settings == [{"temperature": 0.0, "top_p": 0.5, "max_tokens": 9}]
    for args, words in (
        (["--max-new-tokens", "3"], "that is `--max-tokens` here"),
        (["-t", "0.7"], "`--temp` is the temperature"),
        (["--tempratur", "1"], "did you mean `--temperature`"),
    ):
        result = invoke("hi", *args)
        assert result.exit_code == 2 and words in result.stderr, result.stderr


@pytest.mark.parametrize("args", [["--temp", "500"], ["-n", "0"], ["--top-p", "2"], ["-t", "0"], ["--stop", ""], []])
def test_a_wrong_option_is_a_usage_error_before_anything_is_loaded(model: FakeModel, args: list[str]) -> None:
    result = invoke(*args, "-p", "hi") if args else CliRunner().invoke(cli, ["chat"])
    assert result.exit_code == 2 and result.stderr.startswith("error: ") and model.asked == []


def test_logprobs_are_in_the_record(model: FakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {7: "a", 8: "\x1b"}
    model.tokenizer = SimpleNamespace(text_of=names.__getitem__, bytes_of=lambda token: names[token].encode())
    found = (TokenLogprob(7, -0.5, ((7, -0.5), (8, -float("inf")))),)
    monkeypatch.setattr(FakeReply, "logprobs", found, raising=False)
    record = json.loads(invoke("hi", "--json", "--top-logprobs", "2").stdout)
    likely = [{"token": 7, "text": "a", "bytes": [97], "logprob": -0.5}, {"token": 8, "text": "\x1b", "bytes": [27]}]
    assert record["logprobs"] == [likely[0] | {"top": [likely[0], likely[1] | {"logprob": None}]}]
    assert model.settings == [{"top_logprobs": 2, "logprobs": True}]
    result = invoke("hi", "--logprobs")
    assert result.stdout == "you said: hi\n" and "60.7 %" in result.stderr and "\x1b" not in result.stderr


def test_a_model_that_is_not_built_is_built_with_run_or_yes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: FakeModel
) -> None:
    monkeypatch.setenv("ARGOSY_DIST", "built")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    built: list[str] = []

    def build(stages: object, **choices: str) -> SimpleNamespace:
        built.append(choices["model"])
        assert choices["quantization"] == ("keep" if choices["model"] == "smollm2-135m" else "q4f16_1")
        return SimpleNamespace(directory=tmp_path / "artefact", seconds=1.0)

    monkeypatch.setattr("argosy.cli.stages.build_stages", build)
    result = CliRunner().invoke(cli, ["chat", "tiny", "hi"], input="")
    assert result.exit_code == 1 and "argosy build --model tiny" in result.stderr and "argosy run tiny" in result.stderr
    for words in (["run", "tiny"], ["chat", "./tiny", "-y"], ["run", "smollm2-135m"]):
        assert CliRunner().invoke(cli, [*words, "hi"], input="").exit_code == 0
    assert built == ["tiny", "./tiny", "smollm2-135m"] and model.asked == ["hi"] * 3
    for name in ("llama3", "ollama/llama3:8b", "./nothing", "hf.co/org/model"):
        unknown = CliRunner().invoke(cli, ["run", name, "hi"], input="")
        assert unknown.exit_code == 1 and "Hugging Face id" in unknown.stderr and ".gguf" in unknown.stderr
    assert "Hugging Face id" in CliRunner().invoke(cli, ["run"]).stderr
    monkeypatch.setattr("argosy.cli.console.is_terminal", lambda stream: True)
    monkeypatch.setattr("argosy.cli.console.erases", lambda stream: False)
    assert CliRunner().invoke(cli, ["chat", "tiny", "hi"], input="n\n").exit_code == 1
    assert CliRunner().invoke(cli, ["chat", "tiny", "hi"], input="y\n").exit_code == 0
    assert built[3:] == ["tiny"]


def test_ctrl_c_ends_a_single_answer_and_a_pipe_with_its_exit_code(model: FakeModel) -> None:
    model.interrupts = 1
    result = invoke("-p", "one")
    assert result.exit_code == 130 and "(stopped)" in result.stderr
    result = invoke(stdin="one\ntwo\n")
    assert result.exit_code == 130 and model.asked == ["one", "one"]
