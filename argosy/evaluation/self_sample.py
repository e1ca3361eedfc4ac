"""Sample the text to evaluate from the reference itself, at temperature 1 with fixed seeds.

On the reference's own text its distribution is the true one, so the divergence measures quantization alone, and not how
well either model predicts other people's prose.
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
_ROUNDS = 16  # answers to each prompt before giving up on a model that generates too little


def sample_windows(runner: Runner, vocabulary: Vocabulary, count: int, progress: Progress) -> list[Window]:
    """Sample answers to `PROMPTS` from `runner`, `count` tokens in all; only the answers are scored.

    Every prompt is answered with a quarter of the tokens; if answers end early, rounds with other seeds follow. Raises
    ArgosyError for a model whose answers are nearly empty.
    """
    prompts = [vocabulary.chat_prompt(prompt) for prompt in PROMPTS]
    sampled = 0
    windows: list[Window] = []
    for round_number in range(_ROUNDS):
        for prompt, answer in _round(runner, prompts, -(-count // len(PROMPTS)), vocabulary.ends, round_number):
            kept = answer[: count - sampled]
            if kept:
                windows.append(Window((*prompt, *kept), len(prompt)))
            sampled += len(kept)
            progress.report("sample the text", sampled, count)
        if sampled == count:
            return windows
    problem = f"the model generated `{sampled}` tokens instead of {count}: it ends its answers at once"
    raise ArgosyError(problem, "give a `--text`")


def _round(
    runner: Runner, prompts: list[list[int]], at_most: int, ends: frozenset[int], round_number: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield every prompt with its answer."""
    engine = Engine(runner)
    requests: dict[int, tuple[list[int], list[int]]] = {}
    for number, prompt in enumerate(prompts):
        room = runner.limits.context_window - len(prompt)
        sampling = SamplingParams(temperature=1.0, top_p=1.0, min_p=0.0, seed=round_number * len(prompts) + number)
        request = Request(prompt=prompt, sampling=sampling, max_tokens=max(1, min(at_most, room)), stop_tokens=ends)
        requests[engine.add(request)] = (prompt, [])
    while engine.has_work:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            if event.token is not None and event.finish != "stop":
                requests[event.request][1].append(event.token)
    yield from requests.values()
