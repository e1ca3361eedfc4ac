"""Chat templates: real ones render as in transformers, and hostile ones are refused quickly."""

from __future__ import annotations

import time
from threading import Thread

import pytest

from argosy.runtime_bindings.chat.sandbox import LimitedEnvironment, LimitExceeded
from argosy.runtime_bindings.chat.template import ChatTemplate, check_messages, select_template
from argosy.support.errors import ArgosyError, ArtefactError, RequestError

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = """{{ bos_token }}{% set ns = namespace(turn=0) %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message.role == 'user' %}
        {{- '[INST] ' ~ message.content | trim ~ ' [/INST]' }}
        {%- set ns.turn = ns.turn + 1 %}
    {%- else %}
        {%- generation %}{{- ' ' ~ message.content ~ eos_token }}{% endgeneration %}
    {%- endif %}
{%- endfor %}"""
TOOLS = """{%- macro row(x, n) %}{{ '%s=%s' % (n, x) }}{% endmacro -%}
{%- for tool in tools or [] %}
{{ tool | tojson(indent=2) }}
{%- if loop.index > 3 %}{% break %}{% endif %}
{%- endfor %}
{{ row(messages | length, 'n') }}|{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') |
join(', ') }} {{- '|' ~ 'a-b'.split('-')[1].upper() ~ '|' ~ {'k': [1, 2]} | tojson }}
    {%- for m in messages[::-1] %}{% if m.role == 'tool' %}{% continue %}{% endif %}{{ m.content.replace('<', '(')
    }};{% endfor %}
{{- strftime_now('%Y') | length }}"""
MESSAGES = [
    {"role": "user", "content": " Hi <b> "},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "é?"},
]


@pytest.mark.parametrize("source", [CHATML, LLAMA2, TOOLS])
@pytest.mark.parametrize("count", [1, 3])
def test_template_renders_as_transformers_does(source: str, count: int) -> None:
    pytest.importorskip("transformers", reason="transformers is the reference")
    from transformers.utils.chat_template_utils import render_jinja_template

    specials = {"bos_token": "<s>", "eos_token": "</s>"}
    tools = [{"type": "function", "function": {"name": "é<f>", "parameters": {}}}]
    expected, _ = render_jinja_template(
        [MESSAGES[:count]], tools=tools, chat_template=source, add_generation_prompt=True, **specials
    )
    rendered = ChatTemplate(source, specials).render(MESSAGES[:count], tools=tools)
    assert rendered == expected[0]


def test_template_without_generation_prompt_is_a_prefix() -> None:
    template = ChatTemplate(CHATML)
    closed = template.render(MESSAGES, add_generation_prompt=False)
    assert template.render(MESSAGES) == closed + "<|im_start|>assistant\n"


def test_template_refusal_is_the_requests_fault() -> None:
    with pytest.raises(RequestError, match="refuses this conversation: `Conversation roles must alternate"):
        ChatTemplate(LLAMA2).render(MESSAGES[1:])


ESCAPES = [
    "{{ ''.__class__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__ }}",
    "{{ messages['__class__'] }}",
    "{{ messages | attr('__class__') }}",
    "{{ (messages | attr('append'))(1) }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('/etc/passwd').read() }}",
    "{{ strftime_now.__globals__ }}",
    "{{ strftime_now.__code__.co_code }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "{{ '{x.__class__}'.format_map({'x': messages}) }}",
    "{{ '%s'.__mod__.__self__.__class__ }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{{ messages[0].update({'role': 'x'}) }}",
    "{{ messages[0].pop('role') }}",
    "{{ messages | map(attribute='__class__') | list }}{{ messages | map(attribute='__class__.__mro__') | first }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('id') }}",
    "{% extends '/etc/passwd' %}",
    "{% from 'os' import system %}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ range.__self__ }}",
    "{{ (1).__class__.__bases__ }}",
    "{% macro m() %}{{ caller.__class__ }}{% endmacro %}{{ m.__globals__ }}{{ m._func.__globals__ }}",
    "{{ loop.__class__ }}{% for m in messages %}{{ loop._iterator.gi_frame }}{% endfor %}",
    "{{ strftime_now.func_globals }}",
    "{{ environment.tick }}{{ environment.globals }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_template_that_reaches_for_the_process_is_refused_or_finds_nothing(source: str) -> None:
    """For an unsafe attribute Jinja raises or returns nothing; no value may leak, and nothing may change."""
    messages = [dict(message) for message in MESSAGES]
    try:
        rendered = ChatTemplate(source).render(messages)
    except ArgosyError as error:
        assert "\n" not in error.message
    else:
        leaks = ("class", "module", "root:", "uid=", "builtin", "object at", "frame")
        assert not any(word in rendered for word in leaks)
    assert messages == MESSAGES


GROW = "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(20) %}{% set ns.x = XX %}{% endfor %}"
LAUGHS = GROW.replace("20", "40") + "{{ ns.x | string | length }}"
BOMBS = [
    *(LAUGHS.replace("XX", x) for x in ("[ns.x, ns.x]", "(ns.x, ns.x)", "{1: ns.x, 2: ns.x}", "dict(a=ns.x, b=ns.x)",
                                        "[ns.x] * 2", "[ns.x] + [ns.x]", "[[ns.x], ns.x] | list")),
    LAUGHS.replace("{% set ns.x = XX %}", "{% set t %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = t %}"),
    LAUGHS.replace("{% set ns.x = XX %}", "{% macro t() %}{{ ns.x }}{{ ns.x }}{% endmacro %}{% set ns.x = t() %}"),
    "{% set a = [0] * 200000 %}{{ ([a] * 1000) | sum(start=[]) | length }}",
    "{% set a = [0] * 200000 %}{{ [a, a] | string }}",
    "{{ 'a' * 10**9 }}",
    "{{ 10**8 * 'ab' }}",
    "{{ ([0] * 10**9) | length }}",
    "{{ 9**(9**9) }}",
    "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x % 10 }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    GROW.replace("XX", "ns.x.replace('a', ns.x)"),
    GROW.replace("XX", "ns.x | replace('a', ns.x)"),
    GROW.replace("XX", "ns.x.join(ns.x)"),
    GROW.replace("XX", "ns.x | list | join(ns.x)"),
    "{{ 'a'.center(10**9) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ ('\t' * 1000).expandtabs(10**8) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a\nb' | indent(10**9) }}",
    "{{ 'a\nb' | indent(width=10**9) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%.1000000000f' % 1 }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{x:1000000000}'.format_map({'x': 1}) }}",
    "{{ '{:{w}}'.format(1, w=10**9) }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ [1, [2]] | tojson(indent=10**9) }}",
    "{{ lipsum(n=10**6) }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{% set x = a %}{% endfor %}{% endfor %}",
    "{% for a in range(9999999999) %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(999) %}xxxxxxxx{% endfor %}{% endfor %}",
    "{% macro m(n) %}{{ m(n - 1) }}{{ m(n - 1) }}{% endmacro %}{{ m(400) }}",
    "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "{% for x in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "x" * (2 << 20),
]


@pytest.mark.parametrize("source", BOMBS, ids=lambda source: source[:40])
def test_template_that_wants_too_much_is_refused_quickly(source: str) -> None:
    start = time.process_time()
    with pytest.raises(ArtefactError) as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "\n" not in caught.value.message and len(caught.value.message) < 300
    assert time.process_time() - start < 2  # half of it in practice


def test_template_budget_is_not_refilled_by_another_thread() -> None:
    environment = LimitedEnvironment()
    environment.start()
    environment.budget.work = 1
    other = Thread(target=environment.start)
    other.start()
    other.join()
    environment.tick()
    with pytest.raises(LimitExceeded):
        environment.tick()


@pytest.mark.parametrize(
    "source",
    ["{% if %}", "{{ unclosed", "{% endfor %}", "{{ messages[0]['content'] + 1 }}", "{{ 1 // 0 }}", "{{ no.no.no }}"],
)
def test_template_that_is_broken_says_so_in_one_sentence(source: str) -> None:
    with pytest.raises(ArtefactError, match="chat template cannot be used: `") as caught:
        ChatTemplate(source).render(MESSAGES)
    assert "\n" not in caught.value.message


def test_template_selects_the_default_of_several() -> None:
    assert select_template([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]) == "d"
    assert select_template("x") == "x"
    assert select_template(None) is None and select_template("") is None
    with pytest.raises(ArtefactError):
        select_template([{"name": 3}])


@pytest.mark.parametrize(
    "messages",
    [[], "hello", {"role": "user", "content": "x"}, [1], [{"role": "user"}], [{"role": "god", "content": "x"}],
     [{"role": "user", "content": None}], None, b"ab"],
)  # fmt: skip
def test_template_messages_of_another_form_are_refused(messages: object) -> None:
    with pytest.raises(RequestError):
        check_messages(messages)


def test_a_template_cannot_add_to_the_messages() -> None:
    """Jinja's `indent` adds a line break to its value with `+=`, and so to a list in place."""
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(ArtefactError, match="cannot be indented"):
        ChatTemplate("{{ messages | indent }}").render(messages)
    assert messages == [{"role": "user", "content": "a"}]
