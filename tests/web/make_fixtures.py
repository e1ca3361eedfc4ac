"""Record the Python runtime's sampling, templates, tokens and stop strings as JSON, for the TypeScript tests.

`python tests/web/make_fixtures.py` writes `runtime_bindings/web/test/fixtures/*.json`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as FastTokenizer

from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.loops import LoopDetector
from argosy.runtime_bindings.chat.stops import StopStrings
from argosy.runtime_bindings.chat.template import ChatTemplate
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.penalties import Penalties
from argosy.runtime_bindings.engine.sampler import Kept, Sampler, finite_best, narrow
from argosy.runtime_bindings.engine.workspace import Workspace
from argosy.support.errors import RequestError

FOLDER = Path(__file__).resolve().parents[2] / "runtime_bindings" / "web" / "test" / "fixtures"
SEEDS = (0, 1, 42, 2**32, 2**53 + 1, 2**64 - 1)


def sampler_cases() -> list[dict[str, Any]]:
    """Record adjusted logits, remaining ids and the next draws for logits, history and parameters."""
    asked: list[dict[str, Any]] = [
        {"temperature": 0.0},
        {"temperature": 0.0, "logit_bias": {3: 50.0, 4: -np.inf}},
        {"temperature": 0.0, "repetition_penalty": 1.5, "presence_penalty": 1.0, "frequency_penalty": 0.5},
        {"temperature": 1.0, "top_p": 1.0},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1e-50, "top_p": 1.0},
        {"temperature": 1.3, "top_p": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_p": 0.5, "top_k": 12},
        {"temperature": 1.0, "top_p": 1.0, "min_p": 0.1},
        {"temperature": 2.0, "top_p": 1.0, "typical_p": 0.8},
        {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1},
        {"temperature": 1.0, "top_p": 0.9, "repeat_last_n": 2, "frequency_penalty": 2.0},
        {"temperature": 1.0, "top_p": 0.9, "repeat_last_n": -1, "presence_penalty": -2.0},
        {"temperature": 1.0, "top_p": 0.9, "logprobs": True, "top_logprobs": 3},
        {"temperature": 1.0, "top_p": 0.95, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "repeat_last_n": -1},
        {"temperature": 0.0, "no_repeat_ngram_size": 1, "logit_bias": {3: 50.0}},
        {"temperature": 0.7, "suppress_tokens": [0, 5, 5], "begin_suppress_tokens": [2, 8], "logprobs": True},
        {
            "temperature": 1.0,
            "top_p": 1.0,
            "bad_words_ids": [[1], [9, 7, 4], [3, 9, 7, 6], [9, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]],
        },
    ]
    random = np.random.default_rng(7)
    shapes = {
        "small": random.normal(size=40) * 3,
        "ties": np.round(random.normal(size=60)),
        "banned": np.where(random.random(700) < 0.9, -np.inf, random.normal(size=700)),
        "tail": random.gumbel(size=900) * 2,
    }
    return [
        {"name": name, "logits": numbers(logits), "cases": [sampler_case(logits, settings) for settings in asked]}
        for name, logits in ((name, np.round(values, 3).astype(np.float32)) for name, values in shapes.items())
    ]


def sampler_case(logits: np.ndarray, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Record one case. `changed` has the adjusted logits that differ; `left` is null if all tokens remain."""
    settings = {"min_p": 0.0, **settings, "seed": 11}
    params = SamplingParams(**settings)
    history = [3, 1, 3, 7, 3, 9, 7]
    space = Workspace()
    adjusted, _ = Penalties(params).apply(logits, history, space)
    ids = narrow(Kept(adjusted, finite_best(adjusted)), params, space).compact().ids
    sampler = Sampler(params)
    samples = [sampler.sample(logits, history) for _ in range(12)]
    logprob = samples[0].logprob
    changed = np.flatnonzero(adjusted != logits).tolist()
    return {
        "history": history,
        "params": {**settings, "logit_bias": {str(k): number(v) for k, v in params.logit_bias.items()}},
        "changed": {str(i): number(adjusted[i]) for i in changed},
        "left": None if ids is None or len(ids) == len(logits) else ids.tolist(),
        "tokens": [sample.token for sample in samples],
        "logprob": logprob and {"token": logprob.token, "logprob": logprob.logprob, "top": logprob.top},
    }


def number(value: float) -> float | str:
    """Write a number for JSON, which has no infinity."""
    return "-Infinity" if value == -np.inf else float(value)


def numbers(values: np.ndarray) -> list[float | str]:
    return [number(value) for value in values.tolist()]


CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ALTERNATING = """{{ bos_token }}{% set ns = namespace(turn=0) %}
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
HEADERS = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\n\n" }}
{%- if tools is not none and tools is defined %}{{- "Environment: tools\n" }}{%- endif %}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\n\n'+ message['content'] | trim + '<|eot|>' }}
    {%- else %}
        {{- "<|start|>tool<|end|>\n\n" }}{{- message.content | tojson }}{{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\n\n' }}
{%- endif %}"""
THINKING = """{%- macro row(x, n) %}{{ '<' ~ n ~ '>' ~ x ~ '</' ~ n ~ '>' }}{% endmacro -%}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for m in messages[::-1] %}{%- if m.role == 'user' %}
{%- set ns.last = loop.index0 %}{% break %}{%- endif %}{% endfor %}
{%- for m in messages %}
{%- if m.role == 'assistant' and '</think>' in m.content %}
{%- set content = m.content.split('</think>')[-1].lstrip('\n') %}
{%- else %}{%- set content = m.content %}{%- endif %}
{{- row(content, m.role) }}
{%- endfor %}
{{- ns.last }}|{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | join(', ') }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}"""
TALKS = [
    [{"role": "user", "content": " Hi <b> "}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "é?"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "<think>\nwhat\n</think>\n\nTwo"},
        {"role": "user", "content": "Three 🙂"},
    ],
    [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
]


def template_cases() -> list[dict[str, Any]]:
    """Record rendered conversations, null if the template refuses."""
    specials = {"bos_token": "<s>", "eos_token": "</s>"}
    cases = []
    for source in (CHATML, ALTERNATING, HEADERS, THINKING):
        for talk in TALKS:
            for variables in ({}, {"enable_thinking": False}):
                try:
                    text = ChatTemplate(source, specials).render(talk, **variables)
                except RequestError:
                    text = None
                case = {"source": source, "specials": specials, "messages": talk, "variables": variables}
                cases.append({**case, "text": text})
    return cases


TEXT = (
    "The quick brown fox jumps over the lazy dog. It's what they've said: don't, we'll, I'M, YOU'RE.\n"
    "def f(x):\n    return x ** 2 + 10 * y[3] - 4567.89  # numbers 123 1234 12345\n\n\n"
    "naïve café Ünïcödé Straße Ελληνικά Привет мир 日本語のテキスト 안녕하세요 مرحبا हिन्दी\n"
    "   leading spaces\t\ttabs  trailing   \r\nwindows lines\r\n\r\n camelCaseWordsHere HTTPServer snake_case\n"
    "emoji 🙂👍🏽 $5.00 €3 50% a+b=c <tag attr='v'/> https://example.com/?a=b&c=d\n"
)
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
TEXTS = [
    *TEXT.splitlines(keepends=True), "un <français> đemče Ġ<|ünd|>", "",
    " ", "  ", "\n", "\n\n \n", "a", " a", "a ", "  a  b  ", "\ta\n\tb",
    "12 123 1234 12345678 ٢٣ ²³ Ⅷ ½", "e\u0301\u0302 q\u0323\u0307", "\u00a0x\u3000y\u200bz\u2028w", "🙂🙂👨‍👩‍👧x",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|> x <|im_end|>", "x<|im_end", "<s>a</s> b", "\ufeffbom",
    "a/b//c\n/d \n\n/e", "!!! ??? ... --- ((( )))",
]  # fmt: skip


def byte_level() -> FastTokenizer:
    tokenizer = FastTokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 2, trainer)
    return tokenizer


def sentencepiece() -> FastTokenizer:
    """Make a tokenizer like llama 2's: spaces are U+2581, unknown characters fall back to bytes."""
    trained = FastTokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=SPECIAL[:3], show_progress=False)
    trained.train_from_iterator(["the quick brown fox jumps over the lazy dog, it is what they said " * 3], trainer)
    model = json.loads(trained.to_str())["model"]
    tokens = [*SPECIAL[:3], *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += [token for token in sorted(model["vocab"], key=model["vocab"].get) if token not in SPECIAL]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = FastTokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(SPECIAL[:3])
    return tokenizer


def word_piece() -> FastTokenizer:
    """Make a tokenizer like BERT's, which decodes several tokens together."""
    letters = sorted({letter for letter in TEXT.lower() if not letter.isspace()})
    words = ["the", "quick", "fox", "##x", "jump", "##s", "##ing", "don", "line", "##s", "tab"]
    tokens = dict.fromkeys([*SPECIAL[:3], *letters, *(f"##{letter}" for letter in letters), *words])
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = FastTokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(SPECIAL[:3])
    return tokenizer


def added_tokens() -> FastTokenizer:
    """Make a byte-level tokenizer with added tokens whose letters stand for bytes, and with truncation and padding."""
    tokenizer = FastTokenizer(models.BPE({c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|ünd|>"])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in ("<français>", "đem", "če", "Ġ", "naïve")])
    tokenizer.enable_truncation(max_length=3)
    tokenizer.enable_padding(length=8, pad_id=0, pad_token="!")
    return tokenizer


def tokenizer_cases() -> list[dict[str, Any]]:
    """Record the ids of texts, and the streamed pieces of answers, for several tokenizers."""
    cases = []
    made = {"byte level": byte_level(), "sentencepiece": sentencepiece(), "word piece": word_piece()}
    for name, fast in (*made.items(), ("added tokens", added_tokens())):
        stored = json.loads(fast.to_str())
        tokenizer = Tokenizer(fast)
        random = np.random.default_rng(3)
        answers = [tokenizer.encode(text) for text in TEXTS]
        answers += [random.integers(0, fast.get_vocab_size(), 30).tolist() for _ in range(8)]
        cases.append(
            {
                "name": name,
                "tokenizer": stored,
                "texts": [{"text": text, "ids": tokenizer.encode(text)} for text in TEXTS],
                "answers": [{"ids": ids, "pieces": pieces(tokenizer, ids)} for ids in answers],
            }
        )
    return cases


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = tokenizer.detokenizer()
    return [*(detokenizer.add(token) for token in ids), detokenizer.finish()]


SPECIAL_NAMES = ["<|e|>", "<|s|>"]


def stop_cases() -> list[dict[str, Any]]:
    """Record what stop strings let through after every piece of a text, and at its end.

    A piece may be a pair: a text and the name of the special token after it.
    """
    asked: list[tuple[list[str], list[str | tuple[str, str]]]] = [
        (["\n\n"], ["a", "\n", "b", "\n", "\n", "c"]),
        (["</s>", "</"], ["x<", "/", "s>y"]),
        (["abab"], ["ab", "aab", "ab", "c"]),
        (["END", "EN"], ["the E", "N", "D"]),
        (["aa"], ["a", "b", "a"]),
        (["🙂", "é"], ["x", "🙂", "y"]),
        ([], ["a", "b"]),
        (["stop"], ["sto", "sto", "p!"]),
        (["ab", "b"], ["a", "b"]),
        (["<|e|>"], ["a", ("", "<|e|>"), "b"]),
        (["<|e|>\nU"], ["a", ("", "<|e|>"), "\n", "Us"]),
        (["<|e|>\nU"], ["a", ("", "<|e|>"), "\n", "A", ("", "<|s|>"), ("", "<|s|>"), "b"]),
        (["a<|e|>b", "ab"], ["a", ("", "<|s|>"), "b"]),
        (["a<|e|>c", "ab"], ["xa", ("", "<|e|>"), "b"]),
        (["a<|e|>c", "e|>"], ["xa", ("", "<|e|>"), "c"]),
        (["<|e|><|s|>"], ["x", ("y", "<|e|>"), ("", "<|e|>"), ("", "<|s|>")]),
        (["<|e|>"], ["x<|", "e|>"]),
        (["<|e|>c", "zzz"], ["zz", ("", "<|e|>"), "b"]),
    ]
    cases = []
    for stops, parts in asked:
        stop = StopStrings(stops, SPECIAL_NAMES)
        pairs = [part if isinstance(part, tuple) else (part, "") for part in parts]
        given = [stop.add(*pair) for pair in pairs]
        case = {"stops": stops, "special": SPECIAL_NAMES, "pieces": pairs, "given": given}
        cases.append({**case, "rest": stop.finish(), "found": stop.found})
    return cases


def rule_cases() -> list[dict[str, Any]]:
    """Record why tokenizers are refused; null for those that are accepted. Browsers do not read maps of characters."""
    from zoo.hostile_tokenizers import hostile_tokenizers, sound_tokenizers

    cases = [(name, content, reason) for name, content, reason in hostile_tokenizers() if "map" not in name.split()]
    cases += [(f"accepted {i}", content, None) for i, content in enumerate(sound_tokenizers())]
    return [
        {"name": name, "tokenizer": content, "reason": reason}
        for name, content, reason in cases
        if len(json.dumps(content)) < 20_000
    ]


def random_cases() -> list[dict[str, Any]]:
    return [
        {"seed": str(seed), "draws": np.random.Generator(np.random.PCG64(seed)).random(5).tolist()} for seed in SEEDS
    ]


@cache
def loop_cases() -> list[dict[str, Any]]:
    """Record after how many characters of a text a loop is seen, and which passage repeats itself."""
    texts = [
        TEXT + "The sky is blue, and the sea is blue. " * 30, TEXT + "ha" * 400, TEXT * 6, "\n" * 700,
        TEXT + "the end. " * 20,
        "".join(f"{n}. Drink a glass of water before you go to bed at night.\n" for n in range(30)),
        ", ".join(map(str, range(600))), "".join(f"{n} x 7 = {7 * n}\n" for n in range(150)), "日本語の文です。" * 120,
    ]  # fmt: skip
    cases = []
    for text in (text.replace("🙂", ":)").replace("👍🏽", "+") for text in texts):  # JavaScript counts them twice
        for step in (3, 50):
            detector, end = LoopDetector(), 0
            while end < len(text) and not detector.add(text[end : end + step]):
                end += step
            seen = end + step if end < len(text) else None
            cases.append({"text": text, "step": step, "seen": seen, "found": detector.found})
    return cases


def default_settings() -> list[dict[str, Any]]:
    """Record the settings of an answer to a model that recommends nothing."""
    return [{**dataclasses.asdict(GenerationConfig()), "stop": []}]


def all_fixtures() -> dict[str, list[dict[str, Any]]]:
    """Collect the cases by file name."""
    return {
        "defaults.json": default_settings(),
        "loops.json": loop_cases(),
        "random.json": random_cases(),
        "sampler.json": sampler_cases(),
        "stops.json": stop_cases(),
        "template.json": template_cases(),
        "tokenizer.json": tokenizer_cases(),
        "tokenizer_rules.json": rule_cases(),
    }


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # as pytest does
    for file, cases in all_fixtures().items():
        lines = ",\n".join(json.dumps(case, ensure_ascii=False, sort_keys=True) for case in cases)
        (FOLDER / file).write_text(f"[\n{lines}\n]\n", encoding="utf-8")
