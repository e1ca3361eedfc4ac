"""MLC's conversation templates, derived from Jinja templates of all known shapes, render the same text."""

from __future__ import annotations

import jinja2
import pytest

from argosy.dist.conv_template import completion_template, derive_conv_template, play
from argosy.support.errors import ArgosyError

CHATML = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nYou are Smol.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos }}{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if m['role'] == 'user' %}{{ bos }}[INST] {% if loop.first %}{{ system }}{% endif %}"
    "{{ m['content'] }} [/INST]{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% if loop.first %}{{ first }}{% endif %}{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
OLMO = (
    "{{ bos }}{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>\n{{ m['content'] }}<eos>"
    "{% if not loop.last %}\n{% endif %}{% else %}<|{{ m['role'] }}|>\n{{ m['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ refuse() }}{% endif %}"
    "[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
COUNTING = "{% for m in messages %}{{ loop.index }} {{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
TWICE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {{ m['content'] }}\n{% endfor %}assistant: "

BOS = ("<s>", 1)


def renderer(source: str):
    def refuse():
        raise ArgosyError("the template refuses this")

    template = jinja2.Environment().from_string(source)

    def render(messages, generation):
        return template.render(messages=messages, add_generation_prompt=generation, bos=BOS[0], refuse=refuse)

    return render


def derive(source: str):
    return derive_conv_template(renderer(source), name="x", bos=BOS, stop_strings=["<|im_end|>"], stop_token_ids=[2])


FAMILIES = {"chatml": CHATML, "llama3": LLAMA3, "llama2": LLAMA2, "gemma": GEMMA, "phi3": PHI3, "olmo": OLMO}


@pytest.mark.parametrize("source", FAMILIES.values(), ids=FAMILIES)
def test_a_long_conversation_is_the_same_text(source: str) -> None:
    template = derive(source)
    assert template is not None
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
    messages = [{"role": role, "content": f"said {text}"} for role, text in turns]
    expected = renderer(source)([{"role": "system", "content": "be brief"}, *messages], True)
    prefix = BOS[0] if "system_prefix_token_ids" in template else ""
    assert prefix + play(template, messages, system="be brief") == expected


def test_chatml_has_the_parts_mlc_gives_it() -> None:
    template = derive(CHATML)
    assert template is not None
    assert template["system_template"] == "<|im_start|>system\n{system_message}<|im_end|>\n"
    assert template["system_message"] == "You are Smol."
    assert template["roles"] == {
        "user": "<|im_start|>user", "assistant": "<|im_start|>assistant", "tool": "<|im_start|>user"
    }  # fmt: skip
    assert (template["role_content_sep"], template["role_empty_sep"]) == ("\n", "\n")
    assert template["seps"] == ["<|im_end|>\n"]
    assert "system_prefix_token_ids" not in template


def test_the_first_token_becomes_an_id() -> None:
    template = derive(LLAMA3)
    assert template is not None
    assert template["system_prefix_token_ids"] == [1]
    assert "<s>" not in str(template["system_template"])


def test_a_first_token_that_begins_every_turn_stays_text() -> None:
    """SmolLM2 calls <|im_start|> its first token."""
    template = derive_conv_template(
        renderer(CHATML), name="x", bos=("<|im_start|>", 1), stop_strings=[], stop_token_ids=[2]
    )
    assert template is not None and "system_prefix_token_ids" not in template
    assert str(template["system_template"]).startswith("<|im_start|>system")


def test_no_part_ends_inside_a_special_token() -> None:
    template = derive(PHI3)
    assert template is not None
    assert template["seps"] == ["<|end|>\n"]
    assert template["roles"] == {"user": "<|user|>", "assistant": "<|assistant|>", "tool": "<|user|>"}


def test_a_template_that_refuses_system_messages() -> None:
    template = derive(NO_SYSTEM)
    assert template is not None
    assert (template["system_template"], template["system_message"]) == ("{system_message}", "")
    assert play(template, [{"role": "user", "content": "hi"}]) == "[user] hi\n[assistant] "


@pytest.mark.parametrize("source", [COUNTING, TWICE, "always the same"])
def test_what_mlc_cannot_say_is_not_said(source: str) -> None:
    assert derive(source) is None


def test_a_model_without_a_template_completes_text() -> None:
    assert play(completion_template([0]), [{"role": "user", "content": "Once upon"}]) == "Once upon"
