"""Derive MLC's `conv_template` from a chat template, for runtimes without Jinja.

MLC renders a conversation as `system_template`, then for each message `role + role_content_sep + content + separator`,
then `assistant + role_empty_sep`. These parts are found by rendering conversations of sentinels and taking the text
between them. The result is checked against the template on further conversations, and dropped if they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from argosy.support.errors import ArgosyError

TemplateMessage = dict[str, str]
Render = Callable[[Sequence[TemplateMessage], bool], str]
"""Renders messages to text; True adds the generation prompt. Raises ArgosyError if the template refuses them."""

DEFAULT_SYSTEM_MESSAGE = "You are a helpful assistant."
_SYSTEM, _USER, _ANSWER, _AGAIN = "SENTINELsystem", "SENTINELuser", "SENTINELanswer", "SENTINELagain"


def completion_template(stop_token_ids: Sequence[int]) -> dict[str, object]:
    """Return the template of a model without one, which uses text unchanged (MLC calls it `LM`)."""
    return _record("LM", "{system_message}", "", "", "", "", "", [""], True, None, (), stop_token_ids)


def derive_conv_template(
    render: Render,
    *,
    name: str,
    bos: tuple[str, int] | None,
    stop_strings: Sequence[str],
    stop_token_ids: Sequence[int],
) -> dict[str, object] | None:
    """Return the `conv_template` that renders like `render`, or None if MLC's form cannot express it.

    `bos` is the text and the id of the token that the template may begin with; MLC takes it as an id.
    """
    try:
        found = _derive(render, name, bos, stop_strings, stop_token_ids)
    except _CannotExpressError:
        return None
    return found if _agrees(found, render, bos) else None


class _CannotExpressError(Exception):
    """MLC's form cannot express the template."""


def _derive(
    render: Render, name: str, bos: tuple[str, int] | None, stop_strings: Sequence[str], stop_ids: Sequence[int]
) -> dict[str, object]:
    turns = [_message("user", _USER), _message("assistant", _ANSWER), _message("user", _AGAIN)]
    _, asked = _between(_render(render, turns[:1], False), [_USER])
    head, user_to_answer, answer_to_user, _ = _between(_render(render, turns, False), [_USER, _ANSWER, _AGAIN])
    *_, answered = _between(_render(render, turns[:2], False), [_USER, _ANSWER])
    _, generation = _between(_render(render, turns[:1], True), [_USER])

    asked = _separator(asked, user_to_answer)
    answered = _separator(answered, answer_to_user)
    user = answer_to_user[len(answered) :]
    assistant = user_to_answer[len(asked) :]
    content_sep = _common_white_end(user, assistant)
    assistant_role = assistant[: len(assistant) - len(content_sep)]
    empty_sep = _without_prefix(_without_prefix(generation, asked), assistant_role)

    if bos is not None and (user.startswith(bos[0]) or not head.startswith(bos[0])):
        bos = None  # a token that begins every turn (<|im_start|>) belongs to the turns
    if bos is not None:
        head = head[len(bos[0]) :]
    template, message, role_follows = _system(render, user, head, bos)
    return _record(
        name, template, message, user[: len(user) - len(content_sep)], assistant_role, content_sep, empty_sep,
        [asked] if asked == answered else [asked, answered], role_follows,
        None if bos is None else [bos[1]], stop_strings, stop_ids,
    )  # fmt: skip


def _system(render: Render, user: str, head: str, bos: tuple[str, int] | None) -> tuple[str, str, bool]:
    """Return (system_template, system_message, add_role_after_system_message).

    `head` is the text before the first user message.
    """
    try:
        text = _render(render, [_message("system", _SYSTEM), _message("user", _USER)], False)
        before, after, _ = _between(text, [_SYSTEM, _USER])
    except _CannotExpressError:  # no system role: the text before the first message is constant
        return _without_suffix(head, user) + "{system_message}", "", True
    if bos is not None:
        before = _without_prefix(before, bos[0])
    role_follows = after.endswith(user)
    if role_follows:
        after = after[: len(after) - len(user)]
    message = DEFAULT_SYSTEM_MESSAGE
    tail = after + user if role_follows else after
    if len(head) >= len(before) + len(tail) and head.startswith(before) and head.endswith(tail) and head != user:
        message = head[len(before) : len(head) - len(tail)]
    return before + "{system_message}" + after, message, role_follows


def _message(role: str, content: str) -> TemplateMessage:
    return {"role": role, "content": content}


def _render(render: Render, messages: Sequence[TemplateMessage], generation: bool) -> str:
    try:
        return render(messages, generation)
    except ArgosyError as error:
        raise _CannotExpressError from error


def _between(text: str, words: Sequence[str]) -> list[str]:
    """Split `text` at `words`, which must each occur once, in this order."""
    parts = []
    for word in words:
        if text.count(word) != 1:
            raise _CannotExpressError
        before, text = text.split(word)
        parts.append(before)
    return [*parts, text]


def _without_prefix(text: str, prefix: str) -> str:
    if not text.startswith(prefix):
        raise _CannotExpressError
    return text[len(prefix) :]


def _without_suffix(text: str, suffix: str) -> str:
    if not text.endswith(suffix):
        raise _CannotExpressError
    return text[: len(text) - len(suffix)]


def _common_white_end(one: str, other: str) -> str:
    end = _common_start(one[::-1], other[::-1])[::-1]
    return end[len(end.rstrip()) :]


def _common_start(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _separator(after_last: str, before_next: str) -> str:
    """Return the text that ends a message, given what follows the last message and what follows any other one.

    Some templates add an end-of-text token after the last message only. Parts are tokenized separately, so the cut must
    not split a special token: it is moved back to the last `>`, `]` or white space.
    """
    common = _common_start(after_last, before_next)
    if common == after_last:
        return common
    while common and common[-1] not in ">]" and not common[-1].isspace():
        common = common[:-1]
    return common


def _record(
    name: str, system_template: str, system_message: str, user: str, assistant: str, content_sep: str, empty_sep: str,
    seps: list[str], role_follows: bool, prefix_ids: list[int] | None, stop_strings: Sequence[str],
    stop_ids: Sequence[int],
) -> dict[str, object]:  # fmt: skip
    return {
        "name": name,
        "system_template": system_template,
        "system_message": system_message,
        **({"system_prefix_token_ids": prefix_ids} if prefix_ids else {}),
        "add_role_after_system_message": role_follows,
        "roles": {"user": user, "assistant": assistant, "tool": user},
        "role_templates": {"user": "{user_message}", "assistant": "{assistant_message}", "tool": "{tool_message}"},
        "messages": [],
        "seps": seps,
        "role_content_sep": content_sep,
        "role_empty_sep": empty_sep,
        "stop_str": list(stop_strings),
        "stop_token_ids": list(stop_ids),
        "function_string": "",
        "use_function_calling": False,
    }


def play(template: dict[str, object], messages: Sequence[TemplateMessage], system: str | None = None) -> str:
    """Render `messages` as an MLC runtime does, without the prefix token ids, ready for the next answer."""
    roles, seps = template["roles"], template["seps"]
    assert isinstance(roles, dict) and isinstance(seps, list)
    message = template["system_message"] if system is None else system
    text = str(template["system_template"]).replace("{system_message}", str(message))
    skip_first_role = not template["add_role_after_system_message"] and text != ""
    for index, item in enumerate(messages):
        prefix = "" if skip_first_role and index == 0 else roles[item["role"]] + template["role_content_sep"]
        text += prefix + item["content"] + seps[(item["role"] == "assistant") % len(seps)]
    return text + roles["assistant"] + str(template["role_empty_sep"])


def _agrees(template: dict[str, object], render: Render, bos: tuple[str, int] | None) -> bool:
    """Return whether `template` renders like `render`, with the default and with another system message."""
    turns = [_message("user", "one"), _message("assistant", "two"), _message("user", "three")]
    turns += [_message("assistant", "four"), _message("user", "five")]
    default = str(template["system_message"])
    first = [_message("system", default)] if default else []
    cases: list[tuple[list[TemplateMessage], list[TemplateMessage], str | None]]
    cases = [(first + turns[:1], turns[:1], None), (first + turns, turns, None)]
    if default:
        cases.append(([_message("system", "six"), *turns], turns, "six"))
    try:
        for full, visible, system in cases:
            text = _render(render, full, True)
            if template.get("system_prefix_token_ids") and bos is not None:
                text = _without_prefix(text, bos[0])
            if text != play(template, visible, system):
                return False
    except _CannotExpressError:
        return False
    return True
