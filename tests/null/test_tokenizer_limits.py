"""Tokenizers from strangers: hostile ones are refused in a sentence, at once, when building and when loading."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tokenizers import Tokenizer as FastTokenizer
from zoo.file_bytes import tiny_directory
from zoo.hostile_tokenizers import Json, hostile_tokenizers, sound_tokenizers, split, tokenizer

from argosy.model_defs.checkpoint.hf_tokenizer import tokenizer_files
from argosy.model_defs.checkpoint.pre_tokenizers import PRE_TOKENIZERS
from argosy.runtime_bindings.chat.tokenizer import Tokenizer
from argosy.support import tokenizer_probe
from argosy.support.errors import ArgosyError, ArtefactError, CheckpointError
from argosy.support.fast_tokenizer import library_errors, load_tokenizer_json
from argosy.support.regex_cost import shortest_match
from argosy.support.tokenizer_probe import probe_tokenizer
from argosy.support.tokenizer_rules import check_tokenizer

HOSTILE = [pytest.param(content, reason, id=name) for name, content, reason in hostile_tokenizers()]


def written(path: Path, content: Json) -> Path:
    """Write a checkpoint directory with a tokenizer."""
    path.mkdir(exist_ok=True)
    files = {**tiny_directory().files, "tokenizer.json": json.dumps(content).encode()}
    for name, data in files.items():
        if data:
            (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize(("content", "reason"), HOSTILE)
def test_hostile_tokenizers_are_refused(content: Json, reason: str, tmp_path: Path) -> None:
    directory = written(tmp_path / "model", content)
    started = time.process_time()
    with pytest.raises(CheckpointError) as building:
        tokenizer_files(directory, {"model_type": "llama"})
    with pytest.raises(ArtefactError) as loading:
        Tokenizer.load(directory / "tokenizer.json")
    assert time.process_time() - started < 2
    for caught in (building, loading):
        message = caught.value.message
        assert reason in message and "\n" not in message and len(message) < 500 and caught.value.hint


def test_hostile_tokenizers_take_little_memory(tmp_path: Path) -> None:
    """All of them, one after another, in 200 MB more than it takes to import the library."""
    for number, (_, content, _) in enumerate(hostile_tokenizers()):
        (tmp_path / f"{number}.json").write_text(json.dumps(content))
    program = """
import sys
from pathlib import Path
from argosy.support.errors import CheckpointError
from argosy.support.fast_tokenizer import load_tokenizer_json
from tokenizers import Tokenizer
def peak():  # ru_maxrss begins with that of the process that started this one
    return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])

before, refused = peak(), 0
for path in Path(sys.argv[1]).iterdir():
    try:
        load_tokenizer_json(path.read_bytes(), CheckpointError)
    except CheckpointError:
        refused += 1
print(refused, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    refused, kilobytes = map(int, done.stdout.split())
    assert refused == len(HOSTILE) > 50 and kilobytes < 200_000


@pytest.mark.parametrize("content", sound_tokenizers())
def test_what_models_use_is_accepted(content: Json, tmp_path: Path) -> None:
    directory = written(tmp_path / "model", content)
    files = tokenizer_files(directory, {"model_type": "llama"})
    probe_tokenizer(files["tokenizer.json"], "it")
    assert Tokenizer.load(directory / "tokenizer.json").encode("ab") == [2]


def test_expressions_of_models_are_accepted() -> None:
    for pre in PRE_TOKENIZERS.values():
        assert all(shortest_match(pattern) > 0 for pattern in pre.patterns)


@pytest.mark.parametrize("expression", [r"(a|aa)+$", r"(x+x+)+y", r"(\s*\s*)*z"])
def test_a_process_with_limits_is_the_second_line(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the rules refuse would be found by trying it; the library itself gives up after ten million steps."""
    monkeypatch.setattr(tokenizer_probe, "SECONDS", 0.5)
    data = json.dumps(tokenizer(pre_tokenizer=split(expression))).encode()
    with pytest.raises(CheckpointError, match=r"takes too long|takes too much time|retry-limit"):
        probe_tokenizer(data, "the tokenizer")


def test_a_process_that_runs_out_of_memory_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    padding = {"strategy": {"Fixed": 10**9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "a"}  # fmt: skip
    with pytest.raises(CheckpointError, match="takes too much time or memory"):
        probe_tokenizer(json.dumps(tokenizer(padding=padding)).encode(), "the tokenizer")


def test_panics_are_sentences() -> None:
    class PanicException(BaseException):
        """What the library raises, which it does not export."""

    def refuse(reason: str) -> ArgosyError:
        return ArtefactError(f"it failed: {reason}")

    for error in (PanicException("index out of bounds\nnote: a backtrace"), Exception("unknown"), ValueError()):
        with pytest.raises(ArtefactError, match=r"it failed: [a-zA-Z ]+$"), library_errors(refuse):
            raise error
    for interrupt in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(interrupt), library_errors(refuse):
            raise interrupt


def test_a_tokenizer_that_fails_to_encode_raises_a_sentence() -> None:
    content = tokenizer(model={"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"})
    fast = load_tokenizer_json(json.dumps(content).encode(), CheckpointError)
    with pytest.raises(ArtefactError, match="cannot encode this text"):
        Tokenizer(fast).encode("b")


def test_tokenizers_of_the_library_pass_the_rules() -> None:
    """Also steps that it writes with all their fields."""
    for content in (
        tokenizer(),
        tokenizer(decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}),
    ):
        check_tokenizer(json.loads(FastTokenizer.from_str(json.dumps(content)).to_str()))
