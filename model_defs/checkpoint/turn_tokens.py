"""Tell control tokens by their names, and those of them that end a turn, where a file's own marks are wrong."""

from __future__ import annotations

import re
from collections.abc import Collection

WIDE = "\uff5c"  # DeepSeek writes its tokens with fullwidth bars
# By family of models; several of them use more than one.
ENDS_OF_TURN = frozenset(
    {
        "<|im_end|>",  # ChatML
        "<|endoftext|>", "<|end|>",  # GPT-2, Phi
        "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|eot|>", "<|eom|>",  # Llama 3 and 4, Granite
        "<end_of_turn>", "<turn|>", "<|tool_response>", "<eos>",  # Gemma
        "<|return|>", "<|call|>", "<|calls|>", "<|flush|>",  # gpt-oss, Solar
        "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>",  # Command
        f"<{WIDE}end▁of▁sentence{WIDE}>", "<|end▁of▁sentence|>", "<|EOT|>",  # DeepSeek
        "<|end_of_turn|>", "<|end_of_sentence|>", "<|role_end|>", "<|assistant_end|>",  # OpenChat, ERNIE, Ling
        "<|endofturn|>", "[|endofturn|]", "<|stop|>",  # EXAONE, HyperCLOVA
        "[e~[", "[EOT]", "[EOS]", "<EOT>", "_<EOT>", "▁<EOT>",  # MiniMax, Kimi, Code Llama
        "<end_of_utterance>", "<|eos|>", "<|endofchunk|>", "</s>",
    }
)  # fmt: skip
# Names of HTML tags and of texts, which say nothing unless the file marks them as control tokens.
_AMBIGUOUS = frozenset({"</s>", "<eos>"})
_TURNS = frozenset(
    {"<start_of_turn>", "<|turn>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "]~b]", "]~!b["}
)
_CONTROL = re.compile(rf"<([|{WIDE}])[^\W\d][^\s|{WIDE}<>]*\1>|\[\|[^\W\d][^\s|\[\]]*\|\]")
# With one of these pairs, `<|end|>` ends a message, and the answer goes on with another one.
_MESSAGES_END = ({"<|return|>", "<|call|>"}, {"<|calls|>", "<|flush|>"})


def is_control(text: str) -> bool:
    """Return whether a token is a control token by its name, such as `<|im_start|>`."""
    return text in (ENDS_OF_TURN - _AMBIGUOUS) or text in _TURNS or _CONTROL.fullmatch(text) is not None


def ends_of_turn(control: Collection[str]) -> set[str]:
    """Return those of a vocabulary's control tokens that end a turn."""
    found = set(control) & ENDS_OF_TURN
    if any(pair <= found for pair in _MESSAGES_END):
        found.discard("<|end|>")
    return found
