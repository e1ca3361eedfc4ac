"""Everything that is fuzzed, by name."""

from __future__ import annotations

from fuzz.artefacts import ARTEFACTS
from fuzz.checkpoints import CHECKPOINTS
from fuzz.tokenizing import TOKENIZERS

TARGETS = {target.name: target for target in (*CHECKPOINTS, *TOKENIZERS, *ARTEFACTS)}
