"""Train small but real vocabularies, and write them to GGUF files."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import gguf
import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
TEXT = (
    "The quick brown fox jumps over the lazy dog. It's what they've said: don't, we'll, I'M, YOU'RE.\n"
    "def f(x):\n    return x ** 2 + 10 * y[3] - 4567.89  # numbers 123 1234 12345\n\n\n"
    "naïve café Ünïcödé Straße Ελληνικά Привет мир 日本語のテキスト 안녕하세요 مرحبا हिन्दी\n"
    "   leading spaces\t\ttabs  trailing   \r\nwindows lines\r\n\r\n camelCaseWordsHere HTTPServer snake_case\n"
    "emoji 🙂👍🏽 $5.00 €3 50% a+b=c <tag attr='v'/> https://example.com/?a=b&c=d\n"
)
TRICKY = [
    *TEXT.splitlines(keepends=True),
    TEXT,
    "",
    " ",
    "  ",
    "\n",
    "\n\n \n",
    "a",
    " a",
    "a ",
    "  a  b  ",
    "\ta\n\tb",
    "don't DON'T Don't 'tis 's",
    "12 123 1234 12345678 ١٢٣ ²³ Ⅷ ½",
    "e\u0301\u0302 q\u0323\u0307",
    "\u00a0x\u3000y\u200bz\u2028w",
    "🙂🙂👨‍👩‍👧x",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|> x <|im_end|>",
    "x<|im_end",
    "<s>a</s> b",
    "\x00\x01\x7f",
    "ABCdefGHI aBC ÄÖÜäöü ǅ",
    "a/b//c\n/d \n\n/e",
    "!!! ??? ... --- ((( )))",
]


@lru_cache(None)
def byte_level_vocabulary() -> tuple[list[str], list[str]]:
    """Train a byte-level BPE on `TEXT`; return its tokens, special ones first, and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, min_frequency=1, initial_alphabet=sorted(alphabet), special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT] * 2, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]


@lru_cache(None)
def sentencepiece_vocabulary() -> tuple[list[str], list[float], list[int]]:
    """Train a sentencepiece BPE on `TEXT`; return tokens (special, bytes, merged pieces, letters), scores, kinds."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(
        [TEXT] * 2, trainers.BpeTrainer(vocab_size=300, min_frequency=1, limit_alphabet=120, show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    pieces = list(dict.fromkeys("".join(merge) for merge in merges))
    letters = [token for token in model["vocab"] if len(token) == 1]
    runs = ["  ", "   "]  # user-defined runs of spaces, as Gemma has them
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters, *runs]
    scores = (
        [0.0] * (len(SPECIAL) + 256) + [-float(i) for i in range(len(pieces) + len(letters))] + [-1000.0] * len(runs)
    )
    kinds = [2, 3, 3, 3, 3] + [6] * 256 + [1] * (len(pieces) + len(letters)) + [4] * len(runs)
    return tokens, scores, kinds


def write_vocabulary(path: Path, pre: str | None, *, space_prefix: bool = True, add_bos: bool | None = None) -> Path:
    """Write a GGUF file with a tokenizer: byte-level with the pre-tokenizer `pre`, or sentencepiece for None."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "block_count": 1,
        "context_length": 64,
        "embedding_length": 32,
        "feed_forward_length": 32,
    }.items():
        writer.add_uint32(f"llama.{key}", value)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    if pre is None:
        tokens, scores, kinds = sentencepiece_vocabulary()
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(scores)
        writer.add_add_space_prefix(space_prefix)
    else:
        tokens, merges = byte_level_vocabulary()
        kinds = [3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL))
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    writer.add_tensor("token_embd.weight", np.zeros((len(tokens), 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
