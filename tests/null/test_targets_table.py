"""The table of targets: what a row promises, which options are refused, and that nothing asks for a target's name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from argosy.build import BuildRequest, prepare
from argosy.compiler.targets import TARGETS, check_options
from argosy.compiler.targets.entry import OPTION_VALUES
from argosy.compiler.targets.table import BROWSER_TARGET
from argosy.quant.scheme import SCHEMES
from argosy.support.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("argosy", "benchmarks", "compiler", "dist", "docs", "examples", "model_defs", "quant", "runtime_bindings")
TABLE = Path("compiler/targets/table.py")
WEB_COMMAND = (Path("argosy/cli/web.py"), Path("argosy/web"))  # its help says how to build for it
# Names of targets that are also words for something else: a kind of device and an architecture.
AMBIGUOUS = {"cpu", "arm64"}


def sources() -> list[Path]:
    files = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    return [path for path in files if path.parts[:2] != ("dist", "out") and "node_modules" not in path.parts]


@pytest.mark.parametrize("name", sorted(set(TARGETS) - AMBIGUOUS))
def test_a_target_is_named_in_its_own_folder_only(name: str) -> None:
    word = re.compile(rf"(?<![\w.-]){re.escape(name)}(?![\w-])")  # an import of its folder asks for no name
    naming = [path for path in sources() if word.search((ROOT / path).read_text("utf-8"))]
    elsewhere = [path for path in naming if path != TABLE and not any(path.is_relative_to(web) for web in WEB_COMMAND)]
    assert {path.parent.parts[:2] for path in elsewhere} == {TABLE.parent.parts}, elsewhere
    assert len({path.parts[2] for path in elsewhere}) == 1, elsewhere


def test_the_table_is_read_without_loading_a_compiler() -> None:
    code = "import argosy.compiler.targets as t, sys\nprint([e.machine_key() for e in t.TARGETS.values()])\n"
    code += "print(sorted({m.partition('.')[0] for m in sys.modules} & {'tvm', 'tvm_ffi', 'numpy', 'ziglang'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", TARGETS)
def test_a_row_is_sound(name: str) -> None:
    entry = TARGETS[name]
    assert entry.name == name and entry.summary and entry.device
    assert set(entry.schemes or ()) <= set(SCHEMES) and set(entry.options) <= set(OPTION_VALUES)
    for scheme in entry.schemes or SCHEMES:
        settings = entry.settings(scheme, {})
        assert settings.keys() == entry.options.keys()
        assert all(value in OPTION_VALUES[option] for option, value in settings.items())
    assert isinstance(entry.machine_key(), list)


def test_an_option_that_is_given_replaces_its_default() -> None:
    entry = TARGETS["cpu"]
    assert entry.settings("q4f16_1", {}) == {"activations": "int8", "kv": "f16"}
    assert entry.settings("q8f16_1", {"kv": "f32"}) == {"activations": "int16", "kv": "f32"}
    assert BROWSER_TARGET.settings("q4f16_1", {"kv": "f32"}) == {}


@pytest.mark.parametrize(("option", "value"), [("activations", "f32"), ("kv", "f32"), ("kv", "f16")])
def test_an_option_that_a_target_ignores_is_refused(option: str, value: str) -> None:
    browser = BROWSER_TARGET.name
    with pytest.raises(UsageError) as refusal:
        prepare(BuildRequest("not/looked/at", targets=(browser,), **{option: value}))  # type: ignore[arg-type]
    assert refusal.value.message == f"the target `{browser}` does not take `--{option}`"
    assert refusal.value.hint == f"leave `--{option}` out"
    with pytest.raises(UsageError) as refusal:
        prepare(BuildRequest("not/looked/at", targets=("cpu", browser), **{option: value}))  # type: ignore[arg-type]
    assert refusal.value.message == f"the target `{browser}` does not take `--{option}`"
    assert refusal.value.hint == f"leave `--{option}` out, or build for `cpu` in a command of its own"


def test_the_value_of_an_option_is_checked() -> None:
    with pytest.raises(UsageError) as refusal:
        check_options(["cpu"], {"kv": "f8"})
    assert refusal.value.message == "unknown value `f8` of `--kv`"
    assert refusal.value.hint == "one of: f16, f32"


def test_the_command_line_refuses_it_too() -> None:
    command = [sys.executable, "-m", "argosy.cli", "build", "-m", "x", "--kv", "f16", "--target", BROWSER_TARGET.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: the target `{BROWSER_TARGET.name}` does not take `--kv`\nhint: leave `--kv` out\n"
