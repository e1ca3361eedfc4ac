"""The documentation agrees with the code: tables, links, command lines, quoted code, fields and messages."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

from argosy.cli.app import COMMANDS, cli
from argosy.dist import chat_config, manifest, tensor_cache
from argosy.quant.formats import pack, unpack
from argosy.quant.scheme import F32, FORMATS, INT8_F16, Format, Scheme

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = ("argosy", "model_defs", "quant", "compiler", "dist", "runtime_bindings")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def generator() -> ModuleType:
    """Import docs/generate.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of `page` in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


# -- generated tables


@each_page
def test_generated_tables_are_what_the_code_says_now(page: Path) -> None:
    text = page.read_text("utf-8")
    assert generator().filled(text) == text, "stale: run `python docs/generate.py`"


def test_every_table_has_a_place() -> None:
    named = [name for page in PAGES for name in re.findall(r"<!-- generated: ([\w-]+) -->", page.read_text("utf-8"))]
    assert set(named) == set(generator().TABLES)
    for page in PAGES:
        text = page.read_text("utf-8")
        assert text.count("<!-- generated: ") == text.count("<!-- end -->"), page


def test_a_changed_table_is_stale() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    changed = text.replace("| `q4f16_1` |", "| `q4f16_9` |")
    assert changed != text and generator().filled(changed) == text


# -- links and pictures


def anchors(page: Path) -> set[str]:
    """Compute the fragments of the headings of `page`, as GitHub does."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"`{target}` leads nowhere"
        assert place.is_relative_to(ROOT), f"`{target}` leads out of the project"
        assert not fragment or fragment in anchors(place), f"`{target}`: no such heading"


def test_pictures_are_sound_and_fetch_nothing() -> None:
    for path in (ROOT / "docs").glob("*.svg"):
        text = path.read_text("utf-8")
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "href" not in text and "<script" not in text


# -- command lines


def command_lines(page: Path) -> list[str]:
    """Return every `argosy ...` in the shell blocks of `page` and in the first column of its tables."""
    text = page.read_text("utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += re.findall(r"^\| `(argosy [^`]+)` \|", text, re.MULTILINE)
    parts = [part.strip() for line in lines for part in re.split(r"&&|(?<!\\)\||\s>+\s", line)]
    return [part for part in parts if part.startswith("argosy")]


@each_page
def test_documented_commands_parse(page: Path) -> None:
    for line in command_lines(page):
        name, *arguments = shlex.split(line)[1:]
        assert name in COMMANDS, line
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        command.make_context(name, arguments)  # raises


def test_there_are_commands_to_parse() -> None:
    assert len(command_lines(ROOT / "README.md")) >= 10
    words = {"run", "ls", "rm", "tokenize", "pull", "ps", "serve", "completion", "help"}  # these are in docs/cli.md
    assert {shlex.split(line)[1] for line in command_lines(ROOT / "README.md")} >= set(COMMANDS) - words
    assert {shlex.split(line)[1] for line in command_lines(ROOT / "docs" / "cli.md")} == set(COMMANDS)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_two_commands_are_targets_of_the_makefile() -> None:
    lines = "".join(block for page in PAGES for block in blocks(page, "sh"))
    wanted = set(re.findall(r"^make (\w+)", lines, re.MULTILINE))
    assert {"chat", "test"} <= wanted
    for target in wanted:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


# -- quoted code


@pytest.mark.parametrize(
    ("page", "files"),
    [
        ("adding-a-family.md", ("model_defs/families/qwen3.py", "tests/unit/test_families.py")),
        ("adding-a-component.md", ("model_defs/components/dense.py",)),
        (
            "adding-a-target.md",
            ("compiler/targets/cpu/entries.py", "compiler/targets/cpu/target.py", "compiler/targets/cpu/processors.py"),
        ),
    ],
)
def test_quoted_code_is_in_the_files(page: str, files: tuple[str, ...]) -> None:
    texts = [(ROOT / file).read_text("utf-8") for file in files]
    quoted = blocks(ROOT / "docs" / page, "python")
    assert quoted
    for block in quoted:
        assert any(block in text for text in texts), block


def test_the_size_of_the_family_in_the_docs_is_its_size() -> None:
    lines = len((ROOT / "model_defs/families/qwen3.py").read_text("utf-8").splitlines())
    text = (ROOT / "docs/adding-a-family.md").read_text("utf-8")
    assert re.search(rf"families/qwen3\.py +\| +{lines} \+", text)


def test_quoted_before_and_after_is_that_of_the_pass() -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / "compiler/passes/fuse_linear.py").read_text("utf-8")))
    (quoted,) = (block for block in blocks(ROOT / "docs/adding-a-pass.md", "text") if "->" in block)
    assert docstring is not None
    assert [line.strip() for line in quoted.splitlines()] == [
        line.strip() for line in docstring.splitlines() if line.startswith("    ")
    ]


def test_the_phases_in_the_docs_are_those_of_the_pipeline() -> None:
    source = (ROOT / "compiler/pipeline.py").read_text("utf-8")
    phases = re.findall(r"^\s+Phase\(\s*\"([\w-]+)\"", source, re.MULTILINE)
    page = (ROOT / "docs/adding-a-pass.md").read_text("utf-8")
    assert phases and re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE) == phases
    dump = ["lower", *phases]
    (files,) = (block for block in blocks(ROOT / "docs/debugging.md", "text") if "00-lower" in block)
    assert files.split()[:-1] == [f"{i:02d}-{name}.py" for i, name in enumerate(dump)]


def test_the_scheme_and_the_format_of_the_docs_work_as_they_stand() -> None:
    scheme, fmt = blocks(ROOT / "docs/adding-a-scheme.md", "python")
    names = {"Format": Format, "Scheme": Scheme, "F32": F32, "INT8_F16": INT8_F16}
    (made,) = eval(scheme.strip(), names)
    assert made.matrix is INT8_F16
    exec(fmt, names)
    new = names["INT4_G64_F16"]
    assert isinstance(new, Format) and new.name not in FORMATS
    values = np.random.default_rng(0).standard_normal((8, 128), np.float32)
    assert np.abs(unpack(new, pack(new, values), 128) - values).max() < 0.5


# -- fields of the artefact


def test_every_field_of_the_artefact_is_explained() -> None:
    text = (ROOT / "docs/artefact-format.md").read_text("utf-8")
    explained = set(re.findall(r"`(\w+)`", text))
    records = (
        manifest.Manifest, manifest.WeightsRecord, manifest.ConfigRecord, manifest.LibraryRecord,
        manifest.LibraryTarget, manifest.FileRecord,
    )  # fmt: skip
    fields = {field.name for record in records for field in dataclasses.fields(record)}
    config = chat_config.ChatConfig("llama", "q4f16_1", {}, 1, 1, 1, pad_token_id=0, bos_token_id=0, eos_token_ids=(0,))
    fields |= set(config.to_json()) | {"conv_template"}
    assert fields <= explained, f"not explained: {fields - explained}"


def test_every_field_of_a_librarys_metadata_is_explained() -> None:
    tree = ast.parse((ROOT / "compiler/metadata.py").read_text("utf-8"))
    (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "describe")
    fields = {key.value for n in ast.walk(function) if isinstance(n, ast.Dict) for key in n.keys if key is not None}
    section = (ROOT / "docs/artefact-format.md").read_text("utf-8").partition("## What a library says")[2]
    explained = set(re.findall(r"`(\w+)`", section))
    assert len(fields) > 15 and fields <= explained, f"not explained: {fields - explained}"


def test_the_tensor_cache_is_explained(tmp_path: Path) -> None:
    with tensor_cache.TensorCacheWriter(tmp_path) as writer:
        writer.add("x", np.zeros(1, np.float32))
        writer.finish()
    keys = set(re.findall(r'"(\w+)":', (tmp_path / tensor_cache.CACHE_NAME).read_text()))
    text = (ROOT / "docs/artefact-format.md").read_text("utf-8")
    assert keys - {"metadata", "ParamSize", "ParamBytes"} <= set(re.findall(r"`(\w+)`", text))


# -- sentences of errors


@cache
def said_by_the_code() -> str:
    """Return every string in the sources, one per line, with `…` for interpolated values."""
    texts = []
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            if "out" in path.relative_to(ROOT).parts:
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    texts.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def documented_sentences() -> list[str]:
    pages = [ROOT / "docs/errors.md", ROOT / "docs/artefact-format.md"]
    return [found.strip() for page in pages for found in re.findall(r"``([^\n]+?)``", page.read_text("utf-8"))]


def test_sentences_are_documented() -> None:
    assert len(documented_sentences()) > 30


@pytest.mark.parametrize("sentence", documented_sentences())
def test_a_documented_sentence_is_one_that_the_code_says(sentence: str) -> None:
    pieces = sentence.removeprefix("… ").removesuffix(" …").strip()
    assert pieces in said_by_the_code(), "nothing in the sources says this"
