"""The golden transcript: a tiny model gives the same greedy token ids on every target that runs here.

`golden/llama-tiny.json` holds them. They change only when the tiny model does; then this writes them anew:

    python tests/backend/test_golden.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from tiny_checkpoint import save_checkpoint
from tiny_models import build_library

GOLDEN = Path(__file__).parents[1] / "golden" / "llama-tiny.json"
PROMPT = [72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100, 33, 10, 50, 60, 70, 80, 90]  # more than one page
LENGTH = 32
SCALE = 8.0  # the logits of a tiny random model lie close together; larger weights keep the best one ahead


def transcript(directory: Path) -> list[int]:
    """Greedy token ids of the tiny model for `PROMPT`, compiled for this CPU in 32-bit floats."""
    library = build_library(save_checkpoint(directory, scale=SCALE))
    library.add(0)
    logits, ids = library.prefill(0, PROMPT), []
    for _ in range(LENGTH):
        best, second = np.sort(logits)[::-1][:2]
        assert best - second > 1e-3, (
            "two tokens are as good as each other: the transcript would be a matter of rounding"
        )
        ids.append(int(logits.argmax()))
        logits = library.forward("decode", {0: ids[-1:]})[0, 0]
    return ids


@pytest.mark.parametrize("target", ["cpu"])
def test_the_transcript_is_the_golden_one(target: str, tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["prompt"] == PROMPT
    assert len(set(golden["ids"])) > 8, "a transcript that repeats itself proves little"
    assert transcript(tmp_path) == golden["ids"]


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps({"prompt": PROMPT, "ids": transcript(Path(made))}) + "\n")
