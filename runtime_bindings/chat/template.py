"""Render a conversation with the model's own chat template."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from jinja2.sandbox import SecurityError

from argosy.runtime_bindings.chat.messages import ROLES, Message, check_messages, check_variables, plain_value
from argosy.runtime_bindings.chat.sandbox import LimitedEnvironment, TemplateRefusal
from argosy.support.errors import ArgosyError, ArtefactError, RequestError
from argosy.support.text import one_line

__all__ = ["ROLES", "ChatTemplate", "Message", "check_messages", "check_variables", "select_template"]

MESSAGE_KEYS = frozenset({"role", "content", "tool_calls", "name", "type", "text"})
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
PROBE = "PROBE-OF-THE-CONTENT"
END = "END-OF-THE-FINAL-MESSAGE "  # the space shows whether the template strips the text


class ChatTemplate:
    """A model's own Jinja template, with the special tokens that it may use. Threads may render at the same time."""

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """Compile `source`. Raises ArtefactError if it is not Jinja, or larger than any chat template."""
        self._source = source
        self._environment = LimitedEnvironment()
        self._special_tokens = dict(special_tokens or {})
        try:
            self._template = self._environment.compile_limited(source)
        except jinja2.TemplateSyntaxError as error:
            raise _broken(f"line {error.lineno}: {error.message}") from error
        except SecurityError as error:
            raise _forbidden(error) from error
        except Exception as error:
            raise _broken(one_line(error, 200)) from error
        self._takes_parts: dict[str, bool] = {}
        self._takes_text: bool | None = None
        self._rendered_kinds: set[str] = {"user", "assistant"}

    @property
    def roles(self) -> frozenset[str]:
        """The roles that messages may have: the usual ones, and words that the template compares with."""
        words = re.findall(r"""["']([A-Za-z][\w-]{0,40})["']""", self._source)
        return frozenset(ROLES) | (frozenset(words) - MESSAGE_KEYS)

    def __repr__(self) -> str:
        return f"<ChatTemplate for {', '.join(sorted(self.roles))}>"

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **more: Any,
    ) -> str:
        """Return the text of a conversation, with `add_generation_prompt` up to where the assistant's answer begins.

        With `continue_final_message` the text ends where the content of the last message does, for the model to
        continue it. `more` are further variables of the template, such as `tools` or `enable_thinking`. A template that
        does not know lists of parts gets their text, and one that knows only those gets text as a list.

        Raises RequestError if the template refuses the conversation, ArtefactError if it fails or does what the sandbox
        does not allow.
        """
        variables = check_variables(more)
        if not all(isinstance(message, Mapping) for message in messages):
            raise RequestError(f"a conversation is a list of messages, not `{one_line(messages)}`")
        adapted = [self._adapted(_with_reasoning(plain_value(message, "a message"))) for message in messages]
        if continue_final_message:
            return self._continued(adapted, variables)
        return self._render(adapted, add_generation_prompt, variables)

    def check_handled(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> None:
        """Raise RequestError if the template leaves messages of a role, or tool calls, silently out."""
        kinds = {message["role"] for message in messages} | {"tool_calls" for m in messages if m.get("tool_calls")}
        for kind in sorted(kinds - self._rendered_kinds):
            without = [
                {key: value for key, value in message.items() if key != kind}
                for message in messages
                if message["role"] != kind
            ]
            try:
                same = self.render(messages, **variables) == self.render(without, **variables)
            except ArgosyError:  # the template needs them, or refuses them itself
                continue
            if same:
                what = "`tool_calls`" if kind == "tool_calls" else f"messages of the role `{one_line(kind)}`"
                raise RequestError(f"the model's chat template leaves {what} out", "the model was trained without them")
            self._rendered_kinds.add(kind)

    # -- inside

    def _render(
        self, messages: list[dict[str, Any]], add_generation_prompt: bool, variables: Mapping[str, Any]
    ) -> str:
        values = {
            "tools": None, "documents": None, **self._special_tokens, **variables,
            "messages": messages, "add_generation_prompt": add_generation_prompt,
        }  # fmt: skip
        contents = [message.get("content") for message in messages]
        try:
            return self._environment.render_limited(self._template, values)
        except TemplateRefusal as error:
            reason = one_line(error, 200)
            raise RequestError(f"the model's chat template refuses this conversation: `{reason}`") from error
        except (SecurityError, RecursionError, MemoryError) as error:
            raise _forbidden(error) from error
        except Exception as error:  # a template is a program, and may raise anything
            if not all(isinstance(content, str) for content in contents):
                reason = one_line(error, 200)
                raise RequestError(
                    f"the model's chat template does not know messages without text as their content: `{reason}`",
                    "give every message text as its `content`",
                ) from error
            raise _broken(one_line(error, 200)) from error

    def _continued(self, messages: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
        """Render a conversation up to the end of its last message's content, which a mark shows."""
        if not messages:
            raise RequestError("there is no message to continue")
        last = dict(messages[-1])
        content = last.get("content")
        if isinstance(content, str):
            final, last["content"] = content, content + END
        elif isinstance(content, list | tuple) and content and isinstance(content[-1].get("text"), str):
            final = content[-1]["text"]
            last["content"] = [*content[:-1], {**content[-1], "text": final + END}]
        else:
            raise RequestError("the last message has no text to continue", "end with a message by the user or a tool")
        text = self._render([*messages[:-1], last], False, variables)
        place = text.rfind(END.strip())
        if place < 0 or final.strip() not in text:
            raise RequestError(
                "the model's chat template changes the last message, so that it cannot be continued",
                "end with a message by the user or a tool",
            )
        kept = text.startswith(END, place)
        return text[:place] if kept else text[:place].rstrip()

    def _adapted(self, message: dict[str, Any]) -> dict[str, Any]:
        """Give a message's content the form that the template takes: text, or a list of parts of text."""
        content, role = message.get("content"), str(message.get("role"))
        if isinstance(content, list | tuple) and content and not self._knows_parts(role):
            texts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
            return {**message, "content": "\n".join(texts)} if len(texts) == len(content) else message
        if isinstance(content, str) and not self._knows_text() and self._knows_parts(role):
            return {**message, "content": [{"type": "text", "text": content}]}
        return message

    def _knows_text(self) -> bool:
        if self._takes_text is None:
            self._takes_text = self._probe("user", PROBE)
        return self._takes_text

    def _knows_parts(self, role: str) -> bool:
        if role not in self._takes_parts:
            self._takes_parts[role] = self._probe(role, [{"type": "text", "text": PROBE}])
        return self._takes_parts[role]

    def _probe(self, role: str, content: object) -> bool:
        """Return whether the template writes this content as its text, and not as the list that it is."""
        message, question = {"role": role, "content": content}, {"role": "user", "content": content}
        orders = {"user": [question], "system": [message, question], "developer": [message, question]}
        try:
            text = self._render(orders.get(role, [question, message]), False, {})
        except ArgosyError:
            return False
        return PROBE in text and f"'{PROBE}'" not in text and f'"{PROBE}"' not in text


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Give the text of an answer's reasoning under the names that templates read, as transformers does."""
    reasoning = next((message[key] for key in REASONING_KEYS if message.get(key) is not None), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def select_template(value: object) -> str | None:
    """Choose the chat template of `tokenizer_config.json`, which holds one as text or a list of named ones.

    Returns the one named `default`, or else the first; None if there is none.
    """
    if value is None or isinstance(value, str):
        return value or None
    named = value if isinstance(value, list) else []
    entries = [entry for entry in named if isinstance(entry, dict)]
    texts = {str(entry.get("name")): entry.get("template") for entry in entries}
    chosen = texts.get("default") or next((text for text in texts.values() if isinstance(text, str)), None)
    if not isinstance(chosen, str):
        raise ArtefactError(
            f"`chat_template` is `{one_line(value)}`, which is neither a template nor a list of named ones"
        )
    return chosen


def _broken(reason: str) -> ArtefactError:
    return ArtefactError(f"the model's chat template cannot be used: `{reason}`", "use plain completion: chat=False")


def _forbidden(error: BaseException) -> ArtefactError:
    return ArtefactError(
        f"the model's chat template does what the sandbox does not allow: `{one_line(error, 200)}`",
        "get the model from a source that you trust",
    )
