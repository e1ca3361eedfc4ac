"""The order of test files: what a change touches comes first, the rest by folder."""

import subprocess
from pathlib import Path

from neighbours import changed_files, names_of, next_to, ordered


def write(root: Path, files: dict[str, str]) -> list[Path]:
    for name, text in files.items():
        path = root / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return [root / "tests" / name for name in files]


def test_a_file_is_known_by_its_module_and_its_package() -> None:
    assert names_of("compiler/passes/match.py") == {"argosy.compiler.passes.match", "argosy.compiler.passes"}
    assert names_of("argosy/listing.py") == {"argosy.listing"}
    assert names_of("compiler/targets/__init__.py") == {"argosy.compiler.targets"}
    assert names_of("tests/unit/tiny_models.py") == {"tiny_models"}
    assert names_of("docs/cli.md") == {"cli.md"}


def test_tests_of_what_changed_come_first(tmp_path: Path) -> None:
    tests = write(
        tmp_path,
        {
            "backend/test_a.py": "from tiny import build",
            "null/test_b.py": "import argosy.support.env",
            "null/test_c.py": "PAGE = 'docs/cli.md'",
            "unit/test_d.py": "def test():\n    from argosy.compiler import bounds",
            "unit/test_e.py": "",
        },
    )
    a, b, c, d, e = tests

    def order(*changed: str) -> list[Path]:
        return ordered(tests, next_to(tests, changed, tmp_path), tmp_path)

    assert order() == [b, c, d, e, a]
    assert order("compiler/bounds.py") == [d, b, c, e, a]
    assert order("tests/unit/tiny.py", "tests/unit/test_e.py") == [e, a, b, c, d]
    assert order("docs/cli.md", "argosy/support/env.py") == [b, c, d, e, a]
    assert order("docs/cli.md") == [c, b, d, e, a]


def test_what_git_knows_of_changes(tmp_path: Path) -> None:
    assert changed_files(tmp_path) == set()

    def git(*arguments: str) -> None:
        settings = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *settings, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    for name in ("old", "last"):
        (tmp_path / name).write_text("1")
        git("add", name)
        git("commit", "-m", name)
    assert changed_files(tmp_path) == {"last"}
    (tmp_path / "old").write_text("2")
    (tmp_path / "new").write_text("1")
    assert changed_files(tmp_path) == {"last", "old", "new"}
