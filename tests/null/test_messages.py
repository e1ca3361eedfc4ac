"""Conversations and variables that callers give to a chat template: accepted as transformers does, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from argosy.runtime_bindings.chat.conversation import Conversation
from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.messages import check_messages, check_text, check_variables
from argosy.runtime_bindings.chat.template import ChatTemplate, select_template
from argosy.support.errors import ArtefactError, RequestError

CHATML = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PARTS = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}<|end|>{% endfor %}"
)
ONLY_PARTS = "{% for m in messages %}<|{{ m.role }}|>{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"
TOOL_USE = (
    "{% if tools is not none %}[{{ tools | tojson }}]{% endif %}{% for m in messages %}<|{{ m.role }}|>"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
USERS_ONLY = "{% for m in messages if m.role in ('user', 'assistant') %}<{{ m.role }}>{{ m.content }}{% endfor %}"
TRIMMED = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>{% endfor %}"
CALL = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
QUESTION = {"role": "user", "content": "Hi"}


class Characters:
    """A tokenizer with one token for each character."""

    def encode(self, text: str) -> list[int]:
        return [ord(character) for character in text]


def reference(source: str, messages: list[dict[str, Any]], **options: Any) -> str:
    pytest.importorskip("transformers", reason="transformers is the reference")
    from transformers.utils.chat_template_utils import render_jinja_template

    return str(render_jinja_template([messages], chat_template=source, **options)[0][0])


def prompt(source: str, messages: list[dict[str, Any]], **variables: Any) -> str:
    talk = Conversation(Characters(), ChatTemplate(source), None)  # type: ignore[arg-type]
    tokens, _ = talk.prompt(talk.check(messages), variables, GenerationConfig(), 1000)
    return "".join(map(chr, tokens))


@pytest.mark.parametrize(
    "source",
    ["{% if tools is not none %}T{% endif %}", "{% if documents is not none %}D{% endif %}",
     "{{ 'defined' if tools is defined else 'undefined' }}", "{{ documents is none }}",
     "{{ tools }}|{{ not documents }}", "{{ other is defined }}"],
)  # fmt: skip
def test_tools_and_documents_are_none_unless_given(source: str) -> None:
    assert ChatTemplate(source).render([QUESTION]) == reference(source, [QUESTION], add_generation_prompt=True)


@pytest.mark.parametrize(
    "message",
    [{"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "assistant", "tool_calls": [CALL]},
     {"role": "tool", "content": "3", "name": "f", "tool_call_id": "1"}, {"role": "ipython", "content": "3"},
     {"role": "developer", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "a"}]},
     {"role": "assistant", "content": "", "reasoning_content": "hm"}],
)  # fmt: skip
def test_messages_of_tool_conversations_are_accepted(message: dict[str, Any]) -> None:
    (checked,) = check_messages([message])
    assert checked == {key: value for key, value in message.items() if value is not None}
    expected = reference(TOOL_USE, [QUESTION, message, QUESTION], add_generation_prompt=True)
    if isinstance(message.get("content"), str) or "tool_calls" in message:
        assert prompt(TOOL_USE, [QUESTION, message, QUESTION]) == expected


def test_role_that_only_the_template_names_is_accepted() -> None:
    source = "{% for m in messages %}{% if m.role == 'observation' %}({{ m.content }}){% endif %}{% endfor %}"
    assert prompt(source, [{"role": "observation", "content": "3"}]) == "(3)"
    with pytest.raises(RequestError, match="`observation` is not a role"):
        prompt(CHATML, [{"role": "observation", "content": "3"}])


def test_messages_that_the_template_leaves_out_are_refused() -> None:
    for role in ("system", "tool", "developer"):
        with pytest.raises(RequestError, match=f"leaves messages of the role `{role}` out"):
            prompt(USERS_ONLY, [{"role": role, "content": "x"}, QUESTION])
    with pytest.raises(RequestError, match="leaves `tool_calls` out"):
        prompt(USERS_ONLY, [QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, QUESTION])
    with pytest.raises(RequestError, match="does not know messages without text"):
        prompt(CHATML, [QUESTION, {"role": "assistant", "tool_calls": [CALL]}, QUESTION])


def test_parts_of_text_reach_templates_in_the_form_that_they_know() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert prompt(PARTS, [{"role": "user", "content": parts}]) == "<|user|>ab<|end|>"
    assert prompt(CHATML, [{"role": "user", "content": parts}]) == "<|user|>a\nb<|end|><|assistant|>"
    assert prompt(TRIMMED, [{"role": "user", "content": parts}]) == "<|user|>a\nb<|end|>"
    assert prompt(ONLY_PARTS, [QUESTION]) == "<|user|>Hi"


@pytest.mark.parametrize(
    "content", [[{"type": "image_url", "image_url": {"url": "x"}}], [3], [{"type": "text"}], {"text": "x"}, 7, b"x"]
)
def test_content_that_is_not_text_is_refused(content: object) -> None:
    with pytest.raises(RequestError):
        check_messages([{"role": "user", "content": content}])


@pytest.mark.parametrize("source", [CHATML, PARTS, TRIMMED])
@pytest.mark.parametrize("begun", ["The answer is", "The answer is ", "", "a  b\n", "<|end|> x"])
def test_last_message_by_the_assistant_is_continued(source: str, begun: str) -> None:
    messages = [QUESTION, {"role": "assistant", "content": begun}]
    expected = reference(source, messages, continue_final_message=True)
    assert ChatTemplate(source).render(messages, continue_final_message=True) == expected
    assert prompt(source, messages) == expected
    talk = Conversation(Characters(), ChatTemplate(source), None)  # type: ignore[arg-type]
    talk.commit(talk.check(messages), " 42")
    assert talk.turns == [QUESTION, {"role": "assistant", "content": begun + " 42"}]


def test_continued_parts_end_where_the_last_one_does() -> None:
    begun = {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    for source in (CHATML, PARTS):
        messages = [QUESTION, begun]
        assert prompt(source, messages).endswith("b")
    assert prompt(PARTS, [QUESTION, begun]) == reference(PARTS, [QUESTION, begun], continue_final_message=True)


def test_last_message_that_cannot_be_continued_is_refused() -> None:
    with pytest.raises(RequestError, match="changes the last message"):
        prompt("{% for m in messages %}{{ m.content | upper }}{% endfor %}", [{"role": "assistant", "content": "ab"}])
    with pytest.raises(RequestError, match="no text to continue"):
        prompt(TOOL_USE, [QUESTION, {"role": "assistant", "tool_calls": [CALL]}])


@pytest.mark.parametrize(
    "variables",
    [{name: 1} for name in ("messages", "self", "add_generation_prompt", "continue_final_message", "loop", "caller",
                            "super", "varargs", "kwargs", "raise_exception", "namespace", "range", "dict", "none",
                            "True", "not", "a b", "", "1a", "__class__", "a\ud83d")]
    + [{1: 1}, {None: 1}, [1], "x", 3, {"x": object()}, {"x": {1, 2}}, {"x": b"a"}, {"x": print},
       {"x": "a\ud83d"}, {"x": ["\udc00"]}, {"x": {"\udc00": 1}}, {"x": float("nan")}, {"x": 1 << 5000},
       {"x": {(1, 2): 3}}],
    ids=repr,
)  # fmt: skip
def test_variables_that_no_template_can_take_are_refused(variables: Any) -> None:
    with pytest.raises(RequestError) as caught:
        check_variables(variables)
    assert caught.value.message == caught.value.message.strip() and "\n" not in caught.value.message


def test_variables_are_copied_as_plain_values() -> None:
    class Text(str):
        def __str__(self) -> str:
            return "other"

    given = {"tools": [{"a": (1, 2.5, None, True)}], "mode": Text("x"), "bos_token": "<s>"}
    checked = check_variables(given)
    assert checked == given and type(checked["mode"]) is str and checked["tools"] is not given["tools"]
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(RequestError, match="in each other"):
        check_variables({"x": endless})


@pytest.mark.parametrize("text", ["a \ud83d", "\udc00", 3, None, b"a"])
def test_text_that_no_encoding_expresses_is_refused(text: object) -> None:
    with pytest.raises(RequestError):
        check_text(text, "the prompt")
    with pytest.raises(RequestError):
        check_messages([{"role": "user", "content": text}])
    talk = Conversation(Characters(), ChatTemplate(CHATML), None)  # type: ignore[arg-type]
    with pytest.raises(RequestError):
        talk.with_question(text)  # type: ignore[arg-type]
    if text is not None:
        with pytest.raises(RequestError):
            talk.reset(text)  # type: ignore[arg-type]


def test_template_list_with_unusual_names_is_read_or_refused() -> None:
    assert select_template([{"name": ["x"], "template": "t"}]) == "t"
    with pytest.raises(ArtefactError):
        select_template([{"name": "x", "template": 3}])
