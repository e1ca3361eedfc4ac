"""Golden transcripts: tiny models give the same greedy token ids on every target that runs here.

`tests/golden/NAME.json` holds them, at least one for each block topology and each kind of attention. They change only
when the tiny models do; this writes them anew:

    python tests/backend/test_golden.py
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from tiny_checkpoint import save_checkpoint
from tiny_models import TinyLibrary, build_library

from argosy.model_defs.families import FAMILIES

DIRECTORY = Path(__file__).parents[1] / "golden"
PROMPT = [72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100, 33, 10, 50, 60, 70, 80, 90]  # more than one page
LENGTH = 32
SCALE = 8.0  # the logits of a tiny random model lie close together; larger weights keep the best one ahead


@dataclass(frozen=True)
class GoldenModel:
    """A tiny random model: a family's tiny config with `changes`. `seed` makes the transcript varied and decided."""

    family: str
    seed: int = 0
    changes: Mapping[str, object] = field(default_factory=dict)

    def save(self, directory: Path) -> Path:
        """Write its checkpoint into `directory`."""
        config = {**FAMILIES[self.family].tiny_config, **self.changes}
        return save_checkpoint(directory, self.seed, SCALE, config)


LLAMA = "llama-tiny"
# file -> model; what the comments name is in no model above it
GOLDEN: dict[str, GoldenModel] = {
    LLAMA: GoldenModel("llama"),  # pre-norm, grouped heads, RMS norms
    "mistral-tiny": GoldenModel("mistral"),  # a window in every layer
    # learned positions, as many key/value heads as query heads, a scale for each layer, layer norms, biases
    "gpt2-tiny": GoldenModel("gpt2", 5, {"scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False}),
    "gpt_neox-tiny": GoldenModel("gpt_neox", 3),  # parallel with two norms, partial rotation
    # parallel with one norm, a norm for each head of q and k
    "stablelm-tiny": GoldenModel(
        "stablelm", 5, {"use_parallel_residual": True, "use_qkv_bias": True, "qk_layernorm": True}
    ),
    "olmo2-tiny": GoldenModel("olmo2"),  # post-norm, a norm over all of q and all of k
    # sandwich, windows in some layers, two ropes, one norm for all heads of q and k, soft-caps
    "gemma3_text-tiny": GoldenModel(
        "gemma3_text",
        changes={"attn_logit_softcapping": 2.0, "final_logit_softcapping": 60.0, "tie_word_embeddings": False},
    ),
}


def transcript(library: TinyLibrary) -> list[int]:
    """Generate greedy token ids with the tiny model, after `PROMPT`."""
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


def golden_ids(name: str = LLAMA) -> list[int]:
    """Read the ids that every target must give."""
    golden = json.loads((DIRECTORY / f"{name}.json").read_text())
    assert golden["prompt"] == PROMPT
    assert len(set(golden["ids"])) > 8, "a transcript that repeats itself proves little"
    return golden["ids"]


@pytest.mark.parametrize("name", GOLDEN)
def test_the_transcript_is_the_golden_one(name: str, tmp_path: Path) -> None:
    """On this CPU in 32-bit floats; other CPUs are in test_cpu_targets.py and arm64/."""
    assert transcript(build_library(GOLDEN[name].save(tmp_path))) == golden_ids(name)


if __name__ == "__main__":
    import tempfile

    for name, model in GOLDEN.items():
        with tempfile.TemporaryDirectory() as made:
            ids = transcript(build_library(model.save(Path(made))))
        (DIRECTORY / f"{name}.json").write_text(json.dumps({"prompt": PROMPT, "ids": ids}) + "\n")
