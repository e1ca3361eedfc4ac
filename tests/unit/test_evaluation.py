"""`argosy eval` on a tiny model: figures against logits computed prefix by prefix, reference, refusals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_checkpoint import save_checkpoint

from argosy.build import BuildRequest, build
from argosy.cli.app import cli
from argosy.dist.artefact import open_artefact
from argosy.evaluation.compare import Evaluation, evaluate
from argosy.evaluation.divergence import DivergenceMeter
from argosy.evaluation.reference import reference_for
from argosy.evaluation.vocabulary import check_same_vocabulary, open_vocabulary
from argosy.runtime_bindings.engine.batch import Batch, Chunk
from argosy.runtime_bindings.engine.library_runner import LibraryRunner
from argosy.runtime_bindings.engine.loading import load_library, load_weights
from argosy.support.errors import ArgosyError, ArtefactError, UsageError
from argosy.support.progress import SilentProgress

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. "


@dataclasses.dataclass(frozen=True)
class Place:
    """A checkpoint, and its q4f16_1 artefact with a chunk size of which no text here is a multiple."""

    checkpoint: Path
    artefact: Path
    root: Path
    text: Path

    @property
    def reference(self) -> Path:
        """Return where `eval` builds the reference."""
        return self.root / "tiny-q0f32-kvf32"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Build the artefact; `eval` itself builds the reference, in an output root that only this module uses."""
    checkpoint = save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")
    root = tmp_path_factory.mktemp("out")
    artefact = tmp_path_factory.mktemp("elsewhere") / "mine"
    text = root / "text"
    text.write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARGOSY_DIST", str(root))
        build(BuildRequest(str(checkpoint), prefill_chunk=11, output=artefact), SilentProgress())
        evaluate(Evaluation(artefact, text), SilentProgress())
        yield Place(checkpoint, artefact, root, text)


def runner_of(directory: Path) -> LibraryRunner:
    artefact = open_artefact(directory)
    library = load_library(artefact)
    return LibraryRunner(library, load_weights(artefact, library))


def last_logits(runner: LibraryRunner, tokens: tuple[int, ...]) -> np.ndarray:
    """Compute the logits after a whole prefix in one call, unlike `eval`."""
    runner.store.add(0)
    for first in range(0, len(tokens), runner.limits.prefill_chunk):
        logits = runner.forward(Batch([Chunk(0, tokens[first : first + runner.limits.prefill_chunk])])).numpy()
    runner.store.remove(0)
    return logits.copy()


def test_figures_are_those_of_every_prefix_read_alone(place: Place) -> None:
    report = evaluate(Evaluation(place.artefact, place.text), SilentProgress())

    tokens = tuple(open_vocabulary(open_artefact(place.artefact)).encode(TEXT))
    reference, measured = runner_of(place.reference), runner_of(place.artefact)
    meter = DivergenceMeter()
    for length in range(1, len(tokens)):
        prefix = tokens[:length]
        meter.add(last_logits(reference, prefix), last_logits(measured, prefix), np.array([tokens[length]]))
    wanted = dataclasses.asdict(meter.result())
    assert dataclasses.asdict(report.divergence) == pytest.approx(wanted, rel=1e-3, abs=1e-6)
    assert report.divergence.tokens == len(TEXT) - 1
    assert report.divergence.kl_mean > 1e-5, "4 bits cost something"
    assert (report.text, report.artefact.quantization, report.reference.quantization) == ("text", "q4f16_1", "q0f32")


def test_a_text_longer_than_the_context_is_read_in_windows(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(TEXT * 5)
    context = open_artefact(place.artefact).config.context_window_size
    assert len(TEXT) * 5 > 2 * context, "the test needs three windows"
    found = evaluate(Evaluation(place.artefact, text=path), SilentProgress()).divergence
    assert found.tokens == len(TEXT) * 5 - -(-len(TEXT) * 5 // context)


def test_the_reference_does_not_differ_from_itself(place: Place) -> None:
    found = evaluate(Evaluation(place.reference), SilentProgress()).divergence
    assert abs(found.kl_mean) < 1e-12 and found.same_top == 1.0 and found.perplexity == found.reference_perplexity


def test_any_artefact_can_be_the_reference(place: Place) -> None:
    found = evaluate(Evaluation(place.reference, place.text, reference=place.artefact), SilentProgress())
    there = evaluate(Evaluation(place.artefact, place.text), SilentProgress())
    assert found.reference.quantization == "q4f16_1" and found.divergence.same_top == there.divergence.same_top
    assert found.divergence.perplexity == there.divergence.reference_perplexity


def test_what_the_reference_says_itself_is_the_same_each_time(place: Place) -> None:
    one, other = (evaluate(Evaluation(place.artefact, self_sample=50), SilentProgress()) for _ in range(2))
    assert one.divergence == other.divergence and one.divergence.tokens == 50 and one.text == "self-sampled"


def test_the_reference_is_built_once_and_found_by_its_checkpoint(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = open_artefact(place.artefact)
    monkeypatch.setattr("argosy.evaluation.reference.build", lambda *_: pytest.fail("built again"))
    assert reference_for(artefact, SilentProgress()).directory.samefile(place.reference)


def test_a_checkpoint_that_changed_since_is_no_reference(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGOSY_DIST", str(tmp_path / "empty"))
    checkpoint = save_checkpoint(tmp_path / "changing")
    build(BuildRequest(str(checkpoint), output=tmp_path / "mine"), SilentProgress(), ("weights", "config"))
    save_checkpoint(checkpoint, seed=1)
    with pytest.raises(UsageError, match="is no longer the checkpoint"):
        reference_for(open_artefact(tmp_path / "mine"), SilentProgress())
    assert not (tmp_path / "empty").exists()


def test_progress_says_that_the_reference_is_being_built(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGOSY_DIST", str(tmp_path / "empty"))
    stages: list[str] = []

    class Listening(SilentProgress):
        def report(self, stage: str, done: int, total: int, unit: str = "steps") -> None:
            stages.append(stage)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reference_for(open_artefact(place.artefact), Listening())
    assert stages[0].startswith("reference: ")


def test_other_vocabularies_are_refused(place: Place, tmp_path: Path) -> None:
    tokenizer = json.loads((place.checkpoint / "tokenizer.json").read_text())
    letters = tokenizer["model"]["vocab"]
    letters["a"], letters["b"] = letters["b"], letters["a"]
    other = save_checkpoint(tmp_path / "other")
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    build(BuildRequest(str(other), output=tmp_path / "out"), SilentProgress(), ("weights", "config"))
    one, two = open_artefact(place.artefact), open_artefact(tmp_path / "out")
    check_same_vocabulary(one, one, 250)
    with pytest.raises(UsageError, match=r"differ in 2 tokens"):
        check_same_vocabulary(one, two, 250)


@pytest.mark.parametrize(
    ("fields", "kind", "sentence"),
    [
        ({"text": "short"}, UsageError, "has 6 tokens, fewer than 16"),
        ({"text": "short", "self_sample": 8}, UsageError, "exclude each other"),
        ({"reference": "nowhere"}, ArtefactError, "there is no artefact directory"),
        ({"artefact": "nowhere"}, ArtefactError, "there is no artefact directory"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    place: Place, tmp_path: Path, fields: dict[str, object], kind: type[ArgosyError], sentence: str
) -> None:
    (tmp_path / "short").write_text("Hello!")
    paths = {name: tmp_path / value if isinstance(value, str) else value for name, value in fields.items()}
    with pytest.raises(kind, match=sentence):
        evaluate(Evaluation(**{"artefact": place.artefact, **paths}), SilentProgress())  # type: ignore[arg-type]


def test_the_command_prints_a_table_or_json(place: Place) -> None:
    line = ["eval", str(place.artefact), "--self-sample", "16"]
    shown = CliRunner().invoke(cli, line)
    assert shown.exit_code == 0 and "same top token" in shown.stdout and "self-sampled, 16 tokens" in shown.stdout
    printed = CliRunner().invoke(cli, [*line, "--json"])
    report = json.loads(printed.stdout)
    assert report["artefact"]["rounding"] == "full" and report["divergence"]["tokens"] == 16
    assert f"{report['divergence']['kl_mean']:.3g}" in shown.stdout
