"""Compare rebuilt tokenizers with llama.cpp's own, if llama-cpp-python is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from zoo.vocabularies import TRICKY, write_vocabulary

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.checkpoint.pre_tokenizers import PRE_TOKENIZERS

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python, the peer to compare with, is not installed")


def _differences(path: Path, texts: list[str]) -> list[tuple[str, list[int], list[int]]]:
    ours = Tokenizer.from_str(open_checkpoint(path).tokenizer_files()["tokenizer.json"].decode())
    theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    pairs = [
        (text, ours.encode(text).ids, theirs.tokenize(text.encode(), add_bos=True, special=True)) for text in texts
    ]
    return [pair for pair in pairs if pair[1] != pair[2]]


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
def test_byte_level(pre: str, tmp_path: Path) -> None:
    # Models that normalize text to NFC do so in their own tokenizer.json; llama.cpp does not.
    texts = [text for text in TRICKY if not PRE_TOKENIZERS[pre].nfc or "\u0301" not in text]
    assert _differences(write_vocabulary(tmp_path / "v.gguf", pre), texts) == []


@pytest.mark.parametrize("add_bos", [True, False])
@pytest.mark.parametrize("space_prefix", [True, False])
def test_sentencepiece(space_prefix: bool, add_bos: bool, tmp_path: Path) -> None:
    path = write_vocabulary(tmp_path / "v.gguf", None, space_prefix=space_prefix, add_bos=add_bos)
    assert _differences(path, TRICKY) == []
