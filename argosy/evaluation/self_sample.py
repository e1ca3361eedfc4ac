"""A model goes in; what it says itself, sampled at temperature 1 with fixed seeds, comes out as windows to evaluate.

On text that the model writes itself its own distribution is the truth, so the divergence measures quantization alone,
and not how well either model knows somebody's prose.
"""

from __future__ import annotations

from collections.abc import Iterator

from argosy.evaluation.texts import Window
from argosy.evaluation.vocabulary import Vocabulary
from argosy.runtime_bindings.engine.engine import Engine
from argosy.runtime_bindings.engine.params import SamplingParams
from argosy.runtime_bindings.engine.request import Request
from argosy.runtime_bindings.engine.runner import Runner
from argosy.support.errors import ArgosyError
from argosy.support.progress import Progress

PROMPTS = (
    "Explain how photosynthesis works.",
    "Write a short story about a lighthouse.",
    "What are the causes of the French Revolution?",
    "Give me a recipe for tomato soup.",
)
_ROUNDS = 16  # answers to each prompt before we give up on a model that says too little


def sample_windows(runner: Runner, vocabulary: Vocabulary, count: int, progress: Progress) -> list[Window]:
    """Answers of the model in `runner` to `PROMPTS`, `count` tokens in all; only what it said is scored.

    Each prompt is answered with a quarter of the tokens; where answers end early, rounds with other seeds follow.
    Raises ArgosyError for a model that answers with next to nothing.
    """
    prompts = [vocabulary.chat_prompt(prompt) for prompt in PROMPTS]
    said = 0
    windows: list[Window] = []
    for round_number in range(_ROUNDS):
        for prompt, answer in _round(runner, prompts, -(-count // len(PROMPTS)), vocabulary.ends, round_number):
            kept = answer[: count - said]
            if kept:
                windows.append(Window((*prompt, *kept), len(prompt)))
            said += len(kept)
            progress.report("sample the text", said, count)
        if said == count:
            return windows
    raise ArgosyError(f"the model says `{said}` tokens and not {count}: it ends its answers at once", "give a `--text`")


def _round(
    runner: Runner, prompts: list[list[int]], at_most: int, ends: frozenset[int], round_number: int
) -> Iterator[tuple[list[int], list[int]]]:
    """One answer to each prompt, in their order."""
    engine = Engine(runner)
    requests = {}
    for number, prompt in enumerate(prompts):
        room = runner.limits.context_window - len(prompt)
        sampling = SamplingParams(temperature=1.0, top_p=1.0, seed=round_number * len(prompts) + number)
        request = Request(prompt=prompt, sampling=sampling, max_tokens=max(1, min(at_most, room)), stop_tokens=ends)
        requests[engine.add(request)] = (prompt, [])
    while engine.has_work:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            if event.token is not None and event.finish != "stop":
                requests[event.request][1].append(event.token)
    yield from requests.values()
