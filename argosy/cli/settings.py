"""Change the settings of a conversation while it goes on: /set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from argosy.cli import console
from argosy.cli.readers import Read, TerminalReader
from argosy.support.errors import ArgosyError, RequestError
from argosy.support.text import did_you_mean

if TYPE_CHECKING:
    from argosy.cli.talk import Talk
    from argosy.runtime_bindings.chat.generation import GenerationConfig

HELP_OF_SET = """\
/set temperature 0.5        change a setting for the answers from now on; so does /set temperature=0.5
/set temperature default    the model's own value again
/set stop TEXT              end answers before this text
/set system TEXT            start over with this system prompt
/set verbose, /set quiet    show speed and memory below every answer, or not
/set wordwrap, nowordwrap   break lines between words, or not
/set history, nohistory     keep what you type for the next conversation, or not
/set                        show all settings"""

# What other programs call our settings.
OTHER_NAMES = {
    "temp": "temperature", "num_predict": "max_tokens", "max_new_tokens": "max_tokens", "n_predict": "max_tokens",
    "repeat_penalty": "repetition_penalty", "typical": "typical_p", "mean_gen_len": "max_tokens",
}  # fmt: skip
_WINDOW = ("num_ctx", "context_window", "context_window_size", "ctx_size", "n_ctx")


class Settings:
    """The settings of a conversation, as /set shows and changes them."""

    def __init__(self, talk: Talk, read: Read, start_over: Callable[[str], None]) -> None:
        """`start_over` begins the conversation anew with a system prompt."""
        self._talk = talk
        self._read = read
        self._switches: dict[str, Callable[[], str]] = {
            "verbose": lambda: self._switch("verbose", True, "speed and memory are shown below answers"),
            "quiet": lambda: self._switch("verbose", False, "nothing is shown below answers"),
            "wordwrap": lambda: self._switch("wordwrap", True, "lines are broken between words"),
            "nowordwrap": lambda: self._switch("wordwrap", False, "lines are broken by the terminal"),
            "history": lambda: self._keep_history(True),
            "nohistory": lambda: self._keep_history(False),
        }
        self._start_over = start_over

    def set(self, rest: str) -> None:
        """Run `/set REST`."""
        words = rest.split(None, 1)
        if words and words[0].lower() in ("parameter", "param"):
            words = words[1].split(None, 1) if len(words) > 1 else []
        if not words:
            console.say(self.text())
        elif len(words) == 1 and words[0].lower() in self._switches:
            console.say(f"({self._switches[words[0].lower()]()})")
        elif words[0].lower() == "system":
            self._start_over(words[1] if len(words) > 1 else "")
        elif "=" in words[0] or (len(words) > 1 and words[1].startswith("=")):
            for assignment in rest.split(";"):
                name, _, value = assignment.partition("=")
                self._change(name.strip(), value.strip())
        else:
            self._change(words[0], words[1] if len(words) > 1 else None)

    def text(self) -> str:
        """Return all settings, those that were changed with a mark."""
        config, usual = self._config(self._talk.settings), self._usual()
        lines = []
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            changed = "" if value == getattr(usual, field.name) else "  (changed)"
            lines.append(f"{field.name:<22} {_shown(value)}{changed}")
        return "\n".join(lines)

    def restore(self, settings: Mapping[str, Any]) -> None:
        """Take the settings of a saved conversation, without those that are not allowed here."""
        for name, value in settings.items():
            try:
                self._config({**self._talk.settings, name: value})
            except ArgosyError:
                continue
            self._talk.settings[name] = value

    def _change(self, name: str, value: str | None) -> None:
        known = OTHER_NAMES.get(name.lower().replace("-", "_"), name.lower().replace("-", "_"))
        if known in _WINDOW:
            hint = "start again with --context-window N"
            raise ArgosyError("the context window is chosen when a model is loaded", hint)
        names = [field.name for field in dataclasses.fields(self._usual())]
        if known not in names:
            raise ArgosyError(f"there is no setting `{name}`", did_you_mean(known, [*names, *self._switches, "system"]))
        if value is None or value == "":
            console.say(f"{known} {_shown(getattr(self._config(self._talk.settings), known))}")
            return
        if value.lower() == "default":
            self._talk.settings.pop(known, None)
        else:
            changed = {**self._talk.settings, known: _parsed(known, value)}
            if known == "top_logprobs" and changed[known]:
                changed["logprobs"] = True
            self._config(changed)
            self._talk.settings.update(changed)
        console.say(f"({known} is {_shown(getattr(self._config(self._talk.settings), known))})")

    def _switch(self, name: str, value: bool, said: str) -> str:
        setattr(self._talk, name, value)
        return said

    def _keep_history(self, kept: bool) -> str:
        history = self._read.history if isinstance(self._read, TerminalReader) else None
        if history is None:
            raise ArgosyError("there is no history here", "it needs a terminal, and Python's readline")
        history.kept = kept
        return "what you type is kept" if kept else "what you type is not kept any more"

    def _usual(self) -> GenerationConfig:
        return self._talk.model.default_config

    def _config(self, settings: Mapping[str, Any]) -> GenerationConfig:
        """Return the whole configuration with these settings. Raises RequestError for one that is not allowed."""
        from argosy.runtime_bindings.chat.generation import resolve

        return resolve(settings, self._usual())


def _parsed(name: str, text: str) -> Any:
    """Return the value that a text stands for: a number, a truth value, or the text itself for `stop`."""
    if name == "stop":
        return (text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text,)
    words = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    if name == "logit_bias":
        raise RequestError("`logit_bias` cannot be set here", "start again with --logit-bias ID=BIAS")
    return text


def _shown(value: object) -> str:
    return json.dumps(value, default=str) if isinstance(value, str | tuple | list) else str(value)
