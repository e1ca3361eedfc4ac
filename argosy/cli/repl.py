"""Hold a conversation: read prompts and /commands, and answer them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy.cli import console, conversations
from argosy.cli.failures import INTERRUPTED, report
from argosy.cli.limits import explained
from argosy.cli.readers import Read
from argosy.cli.settings import HELP_OF_SET, Settings
from argosy.cli.talk import InterruptedAnswerError, Talk
from argosy.support.errors import ArgosyError
from argosy.support.text import did_you_mean

if TYPE_CHECKING:
    from argosy.runtime_bindings.chat.module import ChatModule
    from argosy.runtime_bindings.chat.stats import ChatStats

HELP = """\
/help, /?      this list; /help set is about settings
/set           show the settings of answers; /set temperature 0.5 changes one
/show          show the model; also /show system, messages, settings, template
/stats         speed and memory of the last answer
/reset, /clear forget the conversation
/system TEXT   start over with this system prompt, or with none
/save NAME     save the conversation
/load NAME     continue a saved conversation, or talk to another model
/exit, /bye    quit; so does Ctrl-D
\"\"\"            begin or end a prompt of several lines
Ctrl-C stops the current answer."""

QUOTES = '"""'
LEAVING = ("/exit", "/quit", "/bye")
BARE_LEAVING = ("exit", "quit", "bye")  # at a terminal, where nobody means them as a prompt
Load = Callable[[Path, str | None], "ChatModule"]


class Repl:
    """The loop that reads prompts and commands."""

    def __init__(
        self, talk: Talk, read: Read, *, system: str | None = None, at_terminal: bool = False, load: Load | None = None
    ) -> None:
        """`system` is the system prompt that the conversation has; `load` loads another model, for /load."""
        self._talk = talk
        self._read = read
        self._text = system
        self._at_terminal = at_terminal
        self._load_model = load
        self._settings = Settings(talk, read, self._system)
        self._commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/?": self._help,
            "/set": self._settings.set,
            "/show": self._show,
            "/stats": lambda rest: console.say(str(talk.model.stats())),
            "/reset": self._reset,
            "/clear": self._reset,
            "/system": self._system,
            "/save": self._save,
            "/load": self._load,
        }

    def greet(self) -> None:
        """Say which model this is."""
        model = self._talk.model
        console.say(f"{model.artefact.name}, {model.stats().context_window} tokens of context; /help lists commands")
        if model.completes_only:
            console.say("(this model has no chat template: it continues texts, and each prompt stands alone)")

    def run(self) -> int:
        """Run until /exit or the end of the input, and return the exit code of the last error, or 0."""
        code = 0
        while True:
            try:
                text = self._next()
                word = text.strip().lower()
                if word.split(maxsplit=1)[:1] in [[leaving] for leaving in LEAVING]:
                    return code
                if self._at_terminal and word in BARE_LEAVING:
                    return code
                if word:
                    self._handle(text)
            except InterruptedAnswerError:
                return INTERRUPTED
            except EOFError:
                if self._at_terminal:
                    console.say()
                return code
            except KeyboardInterrupt:
                console.say("\n(/exit or Ctrl-D quits)")
            except ArgosyError as error:
                code = report(error.message, error.hint, error.exit_code)

    def _next(self) -> str:
        """Read one line, or the lines between triple quotes."""
        line = self._read("> ")
        if not line.strip().startswith(QUOTES):
            return line
        lines = [line.strip().removeprefix(QUOTES)]
        while not lines[-1].rstrip().endswith(QUOTES):
            lines.append(self._read(". "))
        lines[-1] = lines[-1].rstrip().removesuffix(QUOTES)
        return "\n".join(lines).strip("\n")

    def _handle(self, text: str) -> None:
        word, _, rest = text.strip().partition(" ")
        if word.lower() in self._commands:
            self._commands[word.lower()](rest.strip())
        elif word.startswith("/") and "/" not in word[1:]:  # a prompt may begin with a path like /etc/hosts
            raise ArgosyError(f"no such command `{word}`", did_you_mean(word, [*self._commands, "/exit"]))
        else:
            with explained(self._talk.model):
                self._talk.answer(text)

    # -- commands

    def _help(self, rest: str) -> None:
        console.say(HELP_OF_SET if rest.lstrip("/").startswith("set") else HELP)

    def _reset(self, rest: str) -> None:
        self._talk.model.reset_chat()
        self._talk.earlier = None
        console.say("(conversation forgotten)")

    def _system(self, rest: str) -> None:
        self._talk.model.reset_chat(rest)
        self._talk.earlier = None
        self._text = rest
        console.say(
            "(new conversation with this system prompt)" if rest else "(new conversation without a system prompt)"
        )

    def _show(self, rest: str) -> None:
        shown: dict[str, Callable[[], str]] = {
            "info": self._information,
            "system": lambda: self._text or "(no system prompt but the model's own)",
            "messages": self._spoken,
            "settings": self._settings.text,
            "parameters": self._settings.text,
            "template": self._template,
        }
        what = rest.lower() or "info"
        if what not in shown:
            raise ArgosyError(f"there is no `{rest}` to show", did_you_mean(rest, shown))
        console.say(shown[what]())

    def _information(self) -> str:
        artefact, stats = self._talk.model.artefact, self._talk.model.stats()
        manifest = artefact.manifest
        rows = [
            ("model", manifest.model if manifest else artefact.name),
            ("family", artefact.config.model_type),
            ("scheme", artefact.config.quantization),
            ("context", self._context(stats)),
            ("library", f"{stats.target}, {stats.threads} threads"),
            ("directory", str(artefact.directory)),
        ]
        return "\n".join(f"{name:<10} {value}" for name, value in rows)

    def _context(self, stats: ChatStats) -> str:
        """Describe how full the context is. A conversation that was left stays in the cache until the next answer."""
        earlier = self._talk.earlier
        used = stats.context_tokens if earlier is None and self._talk.model.messages else 0
        unread = f", {len(earlier)} messages to read" if earlier else ""
        return f"{used} of {stats.context_window} tokens{unread}"

    def _spoken(self) -> str:
        messages = self._messages()
        return "\n".join(f"{m['role']}: {m['content']}" for m in messages) or "(nothing was said yet)"

    def _template(self) -> str:
        source = self._talk.model.tokenizer.config.get("chat_template")
        return str(source) if source else "(this model has no chat template)"

    def _messages(self) -> list[Any]:
        """Return the conversation so far, without its system prompt."""
        earlier = self._talk.earlier
        if earlier is None:
            return list(self._talk.model.messages)
        return [message for message in earlier if message["role"] != "system"]

    def _save(self, rest: str) -> None:
        if not rest:
            raise ArgosyError("/save needs a name", "/save NAME")
        talk = self._talk
        saved = conversations.SavedConversation(talk.model.artefact.name, self._text, self._messages(), talk.settings)
        replaced = conversations.save(rest, saved)
        console.say(f"({'saved in place of the one before' if replaced else 'saved'}; /load {rest} continues it)")

    def _load(self, rest: str) -> None:
        if not rest:
            names = ", ".join(conversations.saved_names()) or "none yet"
            raise ArgosyError("/load needs the name of a saved conversation or of a model", f"saved: {names}")
        if conversations.is_saved(rest):
            self._continue(conversations.load(rest))
        else:
            self._switch(rest)

    def _continue(self, saved: conversations.SavedConversation) -> None:
        """Make a saved conversation the present one; its model answers if it is loaded, else the present one."""
        talk = self._talk
        talk.model.reset_chat(saved.system or "")
        self._text = saved.system
        system = [{"role": "system", "content": saved.system}] if saved.system else []
        talk.earlier = [*system, *saved.messages] if saved.messages else None
        self._settings.restore(saved.settings)
        name = talk.model.artefact.name
        other = "" if saved.model == name else f", which was held with {saved.model}; {name} answers now"
        console.say(f"(a conversation of {len(saved.messages)} messages{other})")

    def _switch(self, name: str) -> None:
        """Load another model for a new conversation."""
        from argosy.dist.store import find_artefact

        if self._load_model is None:
            raise ArgosyError(f"there is no saved conversation `{name}`", "/save NAME saves one")
        directory = find_artefact(name)
        before, self._talk.model = self._talk.model, self._load_model(directory, self._text)
        self._talk.earlier = None
        before.close()
        self.greet()
