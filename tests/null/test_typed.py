"""Programs that use Argosy are type-checked: what mypy --strict says of a right one and of a wrong one."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from argosy.runtime_bindings.chat.generation import GenerationConfig
from argosy.runtime_bindings.chat.settings import GenerationSettings

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = (  # what signatures do not need
    "argosy.compiler", "argosy.model_defs", "argosy.quant", "numpy", "tokenizers", "tvm", "jinja2", "rich", "click",
    "gguf", "huggingface_hub", "torch", "safetensors", "minisign",
)  # fmt: skip
CONFIG = "\n".join([
    "[mypy]", "strict = True", "cache_dir = {cache}", "[mypy-argosy.*]", "follow_imports = silent",
    *(f"[mypy-{name}.*]\nfollow_imports = skip\nfollow_imports_for_stubs = True" for name in SKIPPED),
])  # fmt: skip

RIGHT = '''
import argosy
from argosy import ArgosyError, ChatModule, GenerationConfig, LoadedModel, Reply
from argosy.build import STAGES, BuildRequest, build, prepare

version: str = argosy.__version__
report = argosy.build("smollm2-135m", target="cpu", quantization="q4f16_1", progress=False)
with LoadedModel.load("smollm2-135m", max_batch=2) as model, ChatModule(model, system="Be brief.") as chat:
    answer: str = chat.generate("Hello", temperature=0.2, stop="\\n", seed=None)
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    pieces: list[str] = list(chat.generate(messages, stream=True, max_tokens=5))
    last: Reply | None = chat.last
    config: GenerationConfig = chat.default_config.replace(top_p=0.5)
ChatModule(report).generate("Hello", generation_config=config)


async def talk(chat: ChatModule) -> str:
    async with chat.stream("Hello", top_k=40) as stream:
        async for piece in stream:
            print(piece.upper())
    return await chat.agenerate("And then?")
'''
WRONG = {
    "argosy.ChatModule('x').generate('x', temperature='hot')": "overload",
    "argosy.ChatModule('x').generate('x', heat=1)": "overload",
    "argosy.ChatModule('x', sytem='x')": "Never",
    "argosy.ChatModule('x').stream(7)": "int",
    "argosy.build(target='cpu')": "model",
    "argosy.nothing": "nothing",
}


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages where mypy finds them, as an installation has them."""
    root = tmp_path_factory.mktemp("typed")
    for package, folder in runpy.run_path(str(ROOT / "setup.py"))["packages"]().items():
        place = root / Path(*package.split("."))
        place.mkdir(parents=True, exist_ok=True)
        for source in folder.glob("*.py*"):
            if source.is_file():
                (place / source.name).symlink_to(source)
    (root / "mypy.ini").write_text(CONFIG.format(cache=root / "cache"))
    return root


def test_a_program_that_uses_everything_is_typed_and_wrong_ones_are_refused(layout: Path) -> None:
    (layout / "right.py").write_text(RIGHT)
    (layout / "wrong.py").write_text("import argosy\n" + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "right.py", "wrong.py"],
        cwd=layout, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert not [line for line in found if not line.startswith("wrong.py")], done.stdout + done.stderr
    for number, (program, word) in enumerate(WRONG.items(), start=2):
        assert any(line.startswith(f"wrong.py:{number}:") and word in line for line in found), (program, done.stdout)


def test_the_marker_of_typed_packages_is_installed() -> None:
    assert (ROOT / "argosy" / "py.typed").is_file()
    assert 'argosy = ["py.typed"]' in (ROOT / "pyproject.toml").read_text("utf-8")


def test_every_setting_of_an_answer_is_a_keyword() -> None:
    """With the same name and the same type."""
    fields = {field.name: field.type for field in dataclasses.fields(GenerationConfig)}
    keywords = {name: reference.__forward_arg__ for name, reference in GenerationSettings.__annotations__.items()}
    assert keywords == fields
