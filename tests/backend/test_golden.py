"""The golden transcript: a tiny model gives the same greedy token ids on every target that runs here.

`golden/llama-tiny.json` holds them. They change only when the tiny model does; then this writes them anew:

    python tests/backend/test_golden.py
"""

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from tiny_checkpoint import save_checkpoint
from tiny_models import TinyLibrary, build_library

GOLDEN = Path(__file__).parents[1] / "golden" / "llama-tiny.json"
PROMPT = [72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100, 33, 10, 50, 60, 70, 80, 90]  # more than one page
LENGTH = 32
SCALE = 8.0  # the logits of a tiny random model lie close together; larger weights keep the best one ahead


def transcript(library: TinyLibrary) -> list[int]:
    """Greedy token ids of the tiny model for `PROMPT`."""
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


def golden_ids() -> list[int]:
    """The ids that every target must give."""
    golden = json.loads(GOLDEN.read_text())
    assert golden["prompt"] == PROMPT
    assert len(set(golden["ids"])) > 8, "a transcript that repeats itself proves little"
    return golden["ids"]


def test_the_transcript_is_the_golden_one(tmp_path: Path) -> None:
    """On this CPU in 32-bit floats; other CPUs are in test_cpu_targets.py and arm64/."""
    assert transcript(build_library(save_checkpoint(tmp_path, scale=SCALE))) == golden_ids()


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        made_ids = transcript(build_library(save_checkpoint(Path(made), scale=SCALE)))
        GOLDEN.write_text(json.dumps({"prompt": PROMPT, "ids": made_ids}) + "\n")
