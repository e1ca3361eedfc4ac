"""The logits after a token have the same bits however its sequence was computed.

Schedules are random: sequences grow in chunks of any length, alone and beside each other, fork, are cut, dropped and
computed again. `==` compares every row of logits with that of the plain way, one token at a time and alone.

`ARGOSY_SCHEDULES` sets how many schedules each library runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from tiny_checkpoint import save_checkpoint
from tiny_models import MAX_BATCH, TinyLibrary, build_library, hurried
from tvm.runtime import ShapeTuple

from argosy.compiler.kernels.kv.shape import PAGE_SIZE
from argosy.compiler.targets import target_named
from argosy.model_defs.families import FAMILIES

SCHEDULES = int(os.environ.get("ARGOSY_SCHEDULES", "63"))
LONGEST = 320  # tokens of a sequence: more than two segments of keys
CAPACITY = 4 * LONGEST + 4 * PAGE_SIZE  # tokens in the cache: of the sequences and of the one they are compared with
# Three texts; a sequence that forks goes on with another one.
TOKENS = np.random.default_rng(7).integers(0, 200, (3, LONGEST))

# What families differ in: windows and soft-caps, groups of heads and odd sizes of them, norms, biases, positions.
LLAMA = {**FAMILIES["llama"].tiny_config, "head_dim": 24, "num_attention_heads": 6, "num_key_value_heads": 2}
MODELS: dict[str, Mapping[str, object]] = {
    "llama": {**LLAMA, "max_position_embeddings": 512},
    "gemma3": {
        **FAMILIES["gemma3_text"].tiny_config,
        "max_position_embeddings": 512,
        "attn_logit_softcapping": 20.0,
    },
    "gpt2": {**FAMILIES["gpt2"].tiny_config, "n_positions": 512},
    "mistral": {**FAMILIES["mistral"].tiny_config, "max_position_embeddings": 512, "sliding_window": 150},
}
HERE, AVX2 = "cpu", "x86_64-v3"
LIBRARIES = [
    ("llama", HERE, "q4f16_1", "int8", "f16"),
    ("llama", HERE, "q0f32", "f32", "f32"),
    ("gemma3", HERE, "q4f16_1", "int8", "f16"),
    ("gpt2", HERE, "q8f16_1", "int16", "f32"),
    ("mistral", HERE, "q4f16_1", "int8", "f32"),
    ("llama", AVX2, "q4f16_1", "int8", "f16"),
    ("gemma3", AVX2, "q8f16_1", "int16", "f16"),
    ("mistral", AVX2, "q0f32", "f32", "f32"),
]


@dataclass
class Schedule:
    """Sequences of a library, their histories, and the logits that every history must have."""

    library: TinyLibrary
    expected: dict[bytes, np.ndarray]
    histories: dict[int, list[int]] = field(default_factory=dict)
    text: dict[int, int] = field(default_factory=dict)
    names: int = 10  # numbers of sequences, never used twice

    def __post_init__(self) -> None:
        self.chunk = self.library.bounds.prefill_chunk

    def call(self, name: str) -> Callable[..., object]:
        """Get a function of the KV cache."""
        return self.library.function(f"vm.builtin.kv_state_{name}")

    def add(self) -> None:
        """Add an empty sequence, in place of the oldest one if there are enough."""
        if len(self.histories) == MAX_BATCH - 1:
            self.drop(min(self.histories))
        self._name([], self.names % len(TOKENS))
        self.library.add(self.names)

    def _name(self, history: list[int], text: int) -> None:
        self.names += 1
        self.histories[self.names], self.text[self.names] = history, text

    def drop(self, sequence: int) -> None:
        """Remove a sequence."""
        self.library.remove(sequence)
        del self.histories[sequence]

    def fork(self, parent: int, share: float) -> None:
        """Add a sequence that begins as `parent` does, and goes on with another text."""
        history = self.histories[parent]
        length = int(share * len(history))
        if length == 0 or len(self.histories) == MAX_BATCH - 1:
            return
        self._name(history[:length], (self.text[parent] + 1) % len(TOKENS))
        self.call("fork_sequence")(self.library.cache, parent, self.names, length)

    def cut(self, sequence: int, share: float) -> None:
        """Drop the last tokens of a sequence."""
        count = int(share * len(self.histories[sequence]))
        if count:
            self.call("popn")(self.library.cache, sequence, count)
            del self.histories[sequence][-count:]

    def step(self, counts: Mapping[int, int], entry: int) -> None:
        """Append tokens to sequences in one step, and compare the logits."""
        chunks, room = {}, self.chunk
        for sequence, count in counts.items():
            history = self.histories[sequence]
            count = min(count, room, LONGEST - len(history))
            if count > 0:
                chunks[sequence] = TOKENS[self.text[sequence], len(history) : len(history) + count].tolist()
                room -= count
        if not chunks:
            return
        entries = ["batch_verify", "batch_prefill"]
        if all(len(tokens) == 1 for tokens in chunks.values()):
            entries += ["batch_decode"] * 4
        if len(chunks) == 1:
            entries += ["prefill", *["decode"] * (len(next(iter(chunks.values()))) == 1)]
        name = entries[entry % len(entries)]
        logits = self.library.forward(name, chunks)
        logits = logits.reshape(-1, logits.shape[-1])
        row = 0
        for sequence, tokens in chunks.items():
            history = self.histories[sequence]
            history.extend(tokens)
            ends = range(len(history) - len(tokens), len(history))
            for end in ends if name == "batch_verify" else ends[-1:]:
                same = (logits[row] == self.reference(history[: end + 1])).all()
                assert same, f"{name} of {[(s, len(t)) for s, t in chunks.items()]}, position {end} of {sequence}"
                row += 1
        assert row == len(logits)

    def reference(self, history: Sequence[int]) -> np.ndarray:
        """Return the logits after a history, decoded alone, one token at a time."""
        key = np.asarray(history, "int16").tobytes()
        if key not in self.expected:
            self.library.add(0)
            for end in range(1, len(history) + 1):
                logits = self.library.forward("decode", {0: history[end - 1 : end]})[0, 0]
                self.expected[key[: 2 * end]] = logits.copy()
            self.library.remove(0)
        return self.expected[key]


share = st.floats(0, 1, exclude_max=True)
count = st.one_of(st.just(1), st.just(1), st.integers(1, 20), st.integers(1, 48))
operation = st.one_of(
    st.tuples(st.just("add")),
    st.tuples(st.just("fork"), share, share),
    st.tuples(st.just("cut"), share, share),
    st.tuples(st.just("drop"), share),
    *[st.tuples(st.just("step"), st.lists(count, min_size=1, max_size=3), st.integers(0, 11))] * 6,
)


def run(library: TinyLibrary, expected: dict[bytes, np.ndarray], operations: Sequence[tuple]) -> None:
    """Run a schedule, and remove its sequences."""
    schedule = Schedule(library, expected)
    schedule.add()
    try:
        for kind, *arguments in operations:
            sequences = sorted(schedule.histories)
            if kind == "add" or not sequences:
                schedule.add()
            elif kind == "step":
                schedule.step(dict(zip(sequences[::-1], arguments[0], strict=False)), arguments[1])
            else:
                getattr(schedule, kind)(sequences[int(arguments[0] * len(sequences))], *arguments[1:])
    finally:
        for sequence in list(schedule.histories):
            schedule.drop(sequence)


@pytest.fixture(scope="module", params=LIBRARIES, ids="-".join)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TinyLibrary:
    """A tiny model, compiled."""
    model, target, quantization, activations, kv = request.param
    directory = save_checkpoint(tmp_path_factory.mktemp(model), 1, 8.0, MODELS[model])
    return build_library(
        directory, quantization, target=hurried(target_named(target, activations, kv)), context_window=512
    )


def check_schedules(library: TinyLibrary, schedules: int) -> None:
    """Run random schedules on a library, in a cache of their own."""
    sizes = (MAX_BATCH, CAPACITY, library.bounds.prefill_chunk, PAGE_SIZE, 0)
    library.cache = library.machine["create_paged_kv_cache"](*(ShapeTuple([size]) for size in sizes))
    expected: dict[bytes, np.ndarray] = {}

    @settings(max_examples=schedules, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(operation, min_size=4, max_size=24))
    def check(operations: Sequence[tuple]) -> None:
        run(library, expected, operations)

    check()


def test_same_bits(library: TinyLibrary) -> None:
    check_schedules(library, SCHEDULES)
