"""The tokens that end an answer are found wherever a checkpoint says which they are: as transformers finds them, in the
chat template, and in the names of a GGUF file's tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from argosy.dist.chat_config import make_chat_config, read_chat_config, write_chat_config
from argosy.model_defs.checkpoint.gguf_tokenizer import tokenizer_files
from argosy.model_defs.checkpoint.turn_tokens import ENDS_OF_TURN, WIDE, is_control
from argosy.support.errors import CheckpointError
from argosy.turn_end import ends_of_answers

DEEPSEEK = f"<{WIDE}end▁of▁sentence{WIDE}>"


def turns(user: str, assistant: str, generation: str = "", head: str = "") -> str:
    """Write a chat template in which `X` stands for the content of a turn."""
    both = [text.replace("X", "' + m.content + '") for text in (user, assistant)]
    return (
        f"{head}{{% for m in messages %}}{{% if m.role == 'user' %}}{{{{ '{both[0]}' }}}}"
        f"{{% else %}}{{{{ '{both[1]}' }}}}{{% endif %}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{generation}' }}}}{{% endif %}}"
    )


CHATML = turns(
    "<|im_start|>user\\nX<|im_end|>\\n", "<|im_start|>assistant\\nX<|im_end|>\\n", "<|im_start|>assistant\\n"
)


@dataclass
class Case:
    """A family's template, its added tokens, those that its configuration declares, and those that end an answer."""

    template: str | None
    tokens: list[str]
    declared: list[str]
    ends: list[str]


CASES = {
    "chatml": Case(CHATML, ["<|im_start|>", "<|im_end|>"], ["<|im_end|>"], ["<|im_end|>"]),
    "chatml, base config": Case(
        CHATML, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ["<|endoftext|>"], ["<|endoftext|>", "<|im_end|>"]
    ),
    "chatml, nothing declared": Case(CHATML, ["<|im_start|>", "<|im_end|>"], [], ["<|im_end|>"]),
    "llama 2": Case(turns("<s>[INST] X [/INST]", " X </s>"), ["<s>", "</s>"], ["</s>"], ["</s>"]),
    "llama 3": Case(
        turns("<|start_header_id|>user<|end_header_id|>\\n\\nX<|eot_id|>",
              "<|start_header_id|>assistant<|end_header_id|>\\n\\nX<|eot_id|>"),
        ["<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        ["<|end_of_text|>"], ["<|end_of_text|>", "<|eot_id|>"],
    ),
    "llama 4": Case(
        turns("<|header_start|>user<|header_end|>\\n\\nX<|eot|>",
              "<|header_start|>assistant<|header_end|>\\n\\nX<|eot|>"),
        ["<|eot|>", "<|eom|>", "<|header_start|>", "<|header_end|>"], [], ["<|eot|>"],
    ),
    "gemma": Case(
        turns("<start_of_turn>user\\nX<end_of_turn>\\n", "<start_of_turn>model\\nX<end_of_turn>\\n"),
        ["<eos>", "<start_of_turn>", "<end_of_turn>"], ["<eos>"], ["<eos>", "<end_of_turn>"],
    ),
    "gemma 4": Case(
        turns("<|turn>user\\nX<turn|>\\n", "<|turn>model\\nX<turn|>\\n"), ["<eos>", "<|turn>", "<turn|>"], ["<eos>"],
        ["<eos>", "<turn|>"],
    ),
    "phi 3": Case(
        turns("<|user|>\\nX<|end|>\\n", "<|assistant|>\\nX<|end|>\\n") + "<|endoftext|>",
        ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|end|>"], ["<|endoftext|>"], ["<|endoftext|>", "<|end|>"],
    ),
    "phi 4": Case(
        turns("<|im_start|>user<|im_sep|>X<|im_end|>", "<|im_start|>assistant<|im_sep|>X<|im_end|>"),
        ["<|im_start|>", "<|im_sep|>", "<|im_end|>"], [], ["<|im_end|>"],
    ),
    "zephyr": Case(turns("<|user|>\\nX</s>\\n", "<|assistant|>\\nX</s>\\n"), ["</s>"], ["</s>"], ["</s>"]),
    "mistral": Case(turns("[INST] X[/INST]", " X</s>"), ["</s>", "[INST]", "[/INST]"], [], ["</s>"]),
    "deepseek": Case(
        turns(f"<{WIDE}User{WIDE}>X", f"<{WIDE}Assistant{WIDE}>X{DEEPSEEK}"), [DEEPSEEK, f"<{WIDE}User{WIDE}>"], [],
        [DEEPSEEK],
    ),
    "command": Case(
        turns("<|START_OF_TURN_TOKEN|>X<|END_OF_TURN_TOKEN|>", "<|START_OF_TURN_TOKEN|>X<|END_OF_TURN_TOKEN|>"),
        ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"], [], ["<|END_OF_TURN_TOKEN|>"],
    ),
    "granite": Case(
        turns("<|start_of_role|>user<|end_of_role|>X<|end_of_text|>\\n",
              "<|start_of_role|>assistant<|end_of_role|>X<|end_of_text|>\\n"),
        ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"], [], ["<|end_of_text|>"],
    ),
    "exaone": Case(turns("[|user|]X\\n", "[|assistant|]X[|endofturn|]\\n"), ["[|user|]", "[|endofturn|]"], [],
                   ["[|endofturn|]"]),
    "gpt-oss": Case(
        turns("<|start|>user<|message|>X<|end|>", "<|start|>assistant<|channel|>final<|message|>X<|return|>"),
        ["<|endoftext|>", "<|return|>", "<|call|>", "<|end|>", "<|start|>"],
        ["<|return|>", "<|endoftext|>", "<|call|>"], ["<|return|>", "<|endoftext|>", "<|call|>"],
    ),
    "glm: the next turn is the end": Case(
        turns("<|user|>\\nX", "<|assistant|>\\nX"), ["<|endoftext|>", "<|user|>", "<|assistant|>", "<|observation|>"],
        ["<|endoftext|>", "<|user|>", "<|observation|>"], ["<|endoftext|>", "<|user|>", "<|observation|>"],
    ),
    "openchat": Case(
        turns("GPT4 User: X<|end_of_turn|>", "GPT4 Assistant: X<|end_of_turn|>"), ["</s>", "<|end_of_turn|>"], ["</s>"],
        ["</s>", "<|end_of_turn|>"],
    ),
    "minimax": Case(turns("]~b]user\\nX[e~[\\n", "]~b]ai\\nX[e~[\\n"), ["]~b]", "[e~["], [], ["[e~["]),
    "ling": Case(turns("<role>HUMAN</role>X<|role_end|>", "<role>ASSISTANT</role>X<|role_end|>"), ["<|role_end|>"], [],
                 ["<|role_end|>"]),
    "vicuna": Case(turns("USER: X ", "ASSISTANT: X</s>"), ["</s>"], [], ["</s>"]),
    "reka": Case(turns("human: X <sep> ", "assistant: X <sep> "), ["<sep>"], [], ["<sep>"]),
    "smolvlm": Case(turns("User: X<end_of_utterance>\\n", "Assistant: X<end_of_utterance>\\n"), ["<end_of_utterance>"],
                    [], ["<end_of_utterance>"]),
    "nanochat": Case(turns("<|user_start|>X<|user_end|>", "<|assistant_start|>X<|assistant_end|>"),
                     ["<|user_end|>", "<|assistant_start|>", "<|assistant_end|>"], [], ["<|assistant_end|>"]),
    "a name within a name": Case(turns("X", "X<|end|>x"), ["<|end", "<|end|>"], [], ["<|end|>"]),
    "the next turn begins at once": Case(turns("<|user|>X", "<|assistant|>X<|user|>"), ["<|user|>", "</s>"], ["</s>"],
                                         ["</s>"]),
    "the template always asks for more": Case(
        turns("<|im_start|>user X<|im_end|>", "<|im_start|>assistant X<|im_start|>assistant"),
        ["<|im_start|>", "<|im_end|>"], ["<|im_end|>"], ["<|im_end|>"],
    ),
    "nothing follows": Case(turns("Q: X\\n", "A: X\\n"), ["</s>"], ["</s>"], ["</s>"]),
    "no template": Case(None, ["</s>", "<|im_end|>"], ["</s>"], ["</s>"]),
    "a broken template": Case("{% if %}", ["</s>"], ["</s>"], ["</s>"]),
    "a template that refuses": Case("{{ raise_exception('no') }}", ["</s>"], ["</s>"], ["</s>"]),
    "a template without the answer": Case(turns("X", ""), ["</s>"], [], []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_token_that_a_template_writes_after_an_answer_ends_it(name: str) -> None:
    case = CASES[name]
    tokenizer = Tokenizer(models.BPE({"a": 0}, []))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in case.tokens])
    config = {} if case.template is None else {"chat_template": case.template}
    files = {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": json.dumps(config).encode()}
    ends = ends_of_answers([tokenizer.token_to_id(token) for token in case.declared], files)
    assert [tokenizer.id_to_token(end) for end in ends] == case.ends
    if case.template is not None:
        files |= {"tokenizer_config.json": b"{}", "chat_template.jinja": case.template.encode()}
        assert ends_of_answers([tokenizer.token_to_id(token) for token in case.declared], files) == ends


@pytest.mark.parametrize(
    ("generation", "config"),
    [
        ({"eos_token_id": 3}, {}), ({"eos_token_id": [3, 4]}, {}), ({"eos_token_id": [3, 4]}, {"eos_token_id": 5}),
        ({"eos_token_id": 3}, {"text_config": {"eos_token_id": 6}}), (None, {"eos_token_id": 5}),
        (None, {"eos_token_id": [5, 6]}), (None, {"text_config": {"eos_token_id": [1, 6]}}),
        (None, {"eos_token_id": 5, "text_config": {"eos_token_id": 6}}),
        (None, {"eos_token_id": None, "text_config": {"eos_token_id": 6}}), (None, {"decoder": {"eos_token_id": 2}}),
        (None, {"decoder": {"eos_token_id": 2}, "text_config": {"eos_token_id": 6}}), (None, {}), ({}, {}),
        ({"eos_token_id": None}, {}), (None, {"text_config": {}}), ({"eos_token_id": 0}, {"eos_token_id": 5}),
    ],
)  # fmt: skip
def test_declared_ends_are_those_of_transformers(generation: dict[str, Any] | None, config: dict[str, Any]) -> None:
    from transformers import GenerationConfig

    theirs = GenerationConfig.from_model_config(config) if generation is None else GenerationConfig(**generation)
    expected = theirs.eos_token_id
    files = {} if generation is None else {"generation_config.json": json.dumps(generation).encode()}
    ours = declared(files, config)
    assert ours == tuple(expected if isinstance(expected, list) else [] if expected is None else [expected])


def declared(files: dict[str, bytes], config: dict[str, Any]) -> tuple[int, ...]:
    return make_chat_config(
        model_type="llama", quantization="q0f32", model_config=config, vocab_size=9, context_window_size=9,
        prefill_chunk_size=9, max_batch_size=1, tokenizer_files=files,
    ).eos_token_ids  # fmt: skip


def test_a_generation_config_without_ends_leaves_those_of_the_model() -> None:
    assert declared({"generation_config.json": b'{"top_p": 0.9}'}, {"eos_token_id": 5}) == (5,)


def test_the_ends_in_a_template_of_mlc_count(tmp_path: Any) -> None:
    config = make_chat_config(
        model_type="llama", quantization="q0f32", model_config={"eos_token_id": 5}, vocab_size=9, context_window_size=9,
        prefill_chunk_size=9, max_batch_size=1, tokenizer_files={}, conv_template={"stop_token_ids": [7, 5]},
    )  # fmt: skip
    write_chat_config(tmp_path, config)
    assert read_chat_config(tmp_path).eos_token_ids == (5, 7)


ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4


def of_gguf(names: list[str], kind: int, **more: Any) -> tuple[Tokenizer, list[str]]:
    """Return the tokenizer of a GGUF file with these tokens, and the names of those that end an answer."""
    tokens = [*ALPHABET, "he", *names]
    values: dict[str, Any] = {
        "model": "gpt2", "pre": "llama-bpe", "tokens": tokens, "merges": ["h e"],
        "token_type": np.array([NORMAL] * (len(ALPHABET) + 1) + [kind] * len(names)), **more,
    }  # fmt: skip
    files = tokenizer_files({f"tokenizer.ggml.{key}": value for key, value in values.items()}, "llama", 999, 64)
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    return tokenizer, [tokens[i] for i in json.loads(files["generation_config.json"]).get("eos_token_id", [])]


@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED])
@pytest.mark.parametrize("name", sorted(ENDS_OF_TURN - {"</s>", "<eos>"}))
def test_the_name_of_a_token_in_a_gguf_file_makes_it_an_end(name: str, kind: int) -> None:
    tokenizer, ends = of_gguf([name], kind)
    assert ends == [name]
    encoded = tokenizer.encode(f"he{name}he", add_special_tokens=False)
    assert encoded.tokens == ["he", name, "he"]
    assert tokenizer.decode(encoded.ids) == "hehe"


@pytest.mark.parametrize("kind", [NORMAL, CONTROL, USER_DEFINED])
@pytest.mark.parametrize(
    "name",
    [
        "<|user|>", "<|assistant|>", "<|system|>", "<|im_start|>", "<|im_sep|>", "<|start_header_id|>", "<|turn>",
        "<|end_header_id|>", "<|end_of_role|>", "<start_of_turn>", "[INST]", "[/INST]", "<|observation|>",
        "<|START_OF_TURN_TOKEN|>", "<|channel|>", "<|begin_of_text|>", "[|assistant|]", "]~b]",
        f"<{WIDE}Assistant{WIDE}>",
    ],
)  # fmt: skip
def test_other_turn_tokens_are_control_tokens_and_no_ends(name: str, kind: int) -> None:
    tokenizer, ends = of_gguf([name], kind)
    assert ends == []
    encoded = tokenizer.encode(f"he{name}", add_special_tokens=False)
    assert encoded.tokens == ["he", name] and tokenizer.decode(encoded.ids) == "he"


@pytest.mark.parametrize(
    "name",
    ["<think>", "</think>", "<tool_call>", "</s>", "<eos>", "<s>", "<||>", "<| x |>", "<|", "|>", "<|>", "<b>"],
)  # fmt: skip
def test_names_that_say_nothing_leave_the_file_its_word(name: str) -> None:
    assert not is_control(name)
    for kind in (NORMAL, USER_DEFINED):
        tokenizer, ends = of_gguf([name], kind)
        assert ends == [] and tokenizer.decode([tokenizer.token_to_id(name)]) == name


def test_html_tags_are_ends_only_where_the_file_marks_them() -> None:
    assert of_gguf(["</s>", "<eos>"], CONTROL)[1] == ["</s>", "<eos>"]
    assert of_gguf(["</s>", "<end_of_turn>"], USER_DEFINED)[1] == ["<end_of_turn>"]


def test_the_end_of_a_message_is_not_that_of_an_answer() -> None:
    """gpt-oss thinks in one message and answers in the next."""
    names = ["<|end|>", "<|return|>", "<|call|>"]
    assert of_gguf(names, CONTROL)[1] == ["<|return|>", "<|call|>"]
    assert of_gguf(["<|end|>", "<|flush|>", "<|calls|>"], NORMAL)[1] == ["<|flush|>", "<|calls|>"]
    assert of_gguf(["<|end|>", "<|return|>"], NORMAL)[1] == ["<|end|>", "<|return|>"]
    first = len(ALPHABET) + 1
    assert of_gguf(names, CONTROL, eos_token_id=first)[1] == names  # the file says so itself


def test_ids_in_the_file_count_whatever_their_names() -> None:
    first = len(ALPHABET) + 1
    names = ["a1", "b2", "c3", "d4", "e5"]
    assert of_gguf(names, CONTROL, eos_token_id=first, eot_token_id=first + 1, eom_token_id=first + 2)[1] == names[:3]
    assert of_gguf(names, CONTROL, eos_token_ids=np.array([first + 3, first]))[1] == ["d4", "a1"]
    assert of_gguf(names, CONTROL, eos_token_id=first, eos_token_ids=[first, first + 4])[1] == ["a1", "e5"]
    assert of_gguf(names, CONTROL, eos_token_id=first, eot_token_id=2**32 - 1)[1] == ["a1"]
    with pytest.raises(CheckpointError, match=r"eos_token_ids` is .* which is not a token"):
        of_gguf(names, CONTROL, eos_token_ids=np.array([first, 9999]))


def test_a_gguf_file_recommends_settings_under_its_own_names() -> None:
    values: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": [*ALPHABET, "he"], "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.pre": "llama-bpe",
        "general.sampling.temp": float(np.float32(0.6)), "general.sampling.top_p": float(np.float32(0.95)),
        "general.sampling.top_k": 20, "general.sampling.penalty_repeat": float(np.float32(1.1)),
        "general.sampling.penalty_last_n": 64, "general.sampling.mirostat": 2,
    }  # fmt: skip
    files = tokenizer_files(values, "llama", 999, 64)
    assert json.loads(files["generation_config.json"]) == {
        "temperature": 0.6, "top_p": 0.95, "top_k": 20, "repetition_penalty": 1.1, "repeat_last_n": 64, "mirostat": 2,
    }  # fmt: skip
