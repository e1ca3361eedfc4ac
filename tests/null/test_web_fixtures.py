"""The fixtures of the TypeScript tests are still what the Python runtime computes."""

from __future__ import annotations

import json

import pytest
from web.make_fixtures import FOLDER, all_fixtures


@pytest.mark.parametrize("file", sorted(all_fixtures()))
def test_fixtures_are_what_python_does(file: str) -> None:
    written = json.loads((FOLDER / file).read_text("utf-8"))
    made = json.loads(json.dumps(all_fixtures()[file]))
    assert made == written, "run python tests/web/make_fixtures.py, then npm test in runtime_bindings/web"
