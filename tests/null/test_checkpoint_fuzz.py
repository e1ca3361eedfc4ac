"""Flip, insert and cut bytes in small sound checkpoints: they are read, or refused with an ArgosyError."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zoo.file_bytes import safetensors, tiny_data, tiny_directory, tiny_gguf, tiny_header
from zoo.vocabularies import write_vocabulary

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.support.errors import ArgosyError

RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BYTE = st.integers(0, 255)


@st.composite
def edits(draw: st.DrawFn, size: int) -> list[tuple[str, int, int]]:
    """Draw up to four changes, most of them in the header at the front."""
    place = st.one_of(st.integers(0, min(size, 400) - 1), st.integers(0, size - 1))
    kind = st.sampled_from(["set", "set", "flip", "insert", "delete", "cut", "ones"])
    return draw(st.lists(st.tuples(kind, place, BYTE), min_size=1, max_size=4))


def _edited(data: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    out = bytearray(data)
    for kind, place, value in changes:
        if place >= len(out):
            continue
        if kind == "set":
            out[place] = value
        elif kind == "flip":
            out[place] ^= 1 << (value % 8)
        elif kind == "insert":
            out[place:place] = bytes([value]) * (value % 9 + 1)
        elif kind == "delete":
            del out[place : place + value % 9 + 1]
        elif kind == "ones":
            out[place : place + 8] = b"\xff" * 8
        else:
            del out[place:]
    return bytes(out)


def _use(path: Path) -> None:
    """Read everything; nothing but an ArgosyError may be raised."""
    try:
        checkpoint = open_checkpoint(path)
        for name in checkpoint.names():
            checkpoint.read(name)
            checkpoint.read_blocks(name)
        checkpoint.digest()
        checkpoint.tokenizer_files()
    except ArgosyError as error:
        assert error.message.isprintable() and error.hint


SAFETENSORS = safetensors(tiny_header(), tiny_data())


@RELAXED
@given(edits(len(SAFETENSORS)))
def test_safetensors(tmp_path: Path, changes: list) -> None:
    for name, data in tiny_directory().set("model.safetensors", _edited(SAFETENSORS, changes)).files.items():
        (tmp_path / name).write_bytes(data)
    _use(tmp_path)


GGUF = tiny_gguf().bytes()


@RELAXED
@given(edits(len(GGUF)))
def test_gguf(tmp_path: Path, changes: list) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(_edited(GGUF, changes))
    _use(path)


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_vocabulary(tmp_path_factory.mktemp("v") / "v.gguf", None).read_bytes()


@settings(RELAXED, max_examples=60)
@given(changes=edits(8000))
def test_gguf_with_sentencepiece(tmp_path: Path, sentencepiece: bytes, changes: list) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(_edited(sentencepiece, changes))
    _use(path)


@settings(RELAXED, max_examples=60)
@given(name=st.sampled_from(["config.json", "tokenizer.json"]), data=st.data())
def test_json_files(tmp_path: Path, name: str, data: st.DataObject) -> None:
    files = tiny_directory().files
    changes = data.draw(edits(len(files[name])))
    for file, content in files.items():
        (tmp_path / file).write_bytes(_edited(content, changes) if file == name else content)
    _use(tmp_path)
