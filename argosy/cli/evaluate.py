"""`argosy eval`: an artefact goes in, how far it is from the unquantized model comes out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from argosy.cli import console
from argosy.cli.base import command as argosy_command
from argosy.cli.base import json_option

if TYPE_CHECKING:
    from argosy.evaluation.compare import Report, Subject


@argosy_command(
    "eval",
    examples=[
        "argosy eval smollm2-135m-q4f16_1",
        "argosy eval dist/out/smollm2-135m-q4f16_1 --text chapter.txt --json",
        "argosy eval smollm2-135m-q4f16_1 --self-sample 800",
        "argosy eval smollm2-135m-q4f16_1 --reference smollm2-135m-q8f16_1",
    ],
)
@click.argument("artefact", metavar="ARTEFACT")
@click.option(
    "--text", type=click.Path(path_type=Path), metavar="FILE",
    help="Text to read, UTF-8.  [default: the opening of Alice's Adventures in Wonderland]",
)  # fmt: skip
@click.option(
    "--self-sample", type=click.IntRange(4, 1_000_000), metavar="N",
    help="Instead of a text: N tokens that the reference answers to fixed questions, at temperature 1.",
)
@click.option(
    "--reference", metavar="ARTEFACT",
    help="What to compare with.  [default: the same checkpoint in q0f32, built if there is none]",
)
@json_option
def command(artefact: str, text: Path | None, self_sample: int | None, reference: str | None, as_json: bool) -> None:
    """Compare ARTEFACT with the unquantized model: perplexity, KL divergence, and the share of equal top tokens.

    KL divergence is in nats, of the reference's next-token distribution to the artefact's: 0 where they agree.
    """
    from argosy.evaluation.compare import Evaluation, evaluate
    from argosy.places import find_artefact
    from argosy.support.progress import open_progress

    wanted = Evaluation(
        find_artefact(artefact), text, self_sample, find_artefact(reference) if reference is not None else None
    )
    with open_progress() as progress:
        report = evaluate(wanted, progress)
    if as_json:
        console.data_json(dataclasses.asdict(report))
    else:
        _show(report)


def _show(report: Report) -> None:
    from argosy.support.text import human_time

    found = report.divergence
    rows = [
        ("artefact", _words(report.artefact)),
        ("reference", _words(report.reference)),
        ("text", f"{report.text}, {found.tokens} tokens compared in {human_time(report.seconds)}"),
        ("perplexity", f"{found.perplexity:.3f} (reference {found.reference_perplexity:.3f})"),
        ("KL divergence, mean", f"{found.kl_mean:.5f} ± {found.kl_error:.5f}"),
        ("KL divergence, median", f"{found.kl_median:.5f}"),
        ("KL divergence, 99 %", f"{found.kl_p99:.5f}"),
        ("same top token", f"{found.same_top:.2%}"),
    ]
    console.table(("measure", "value"), rows)


def _words(subject: Subject) -> str:
    return f"{subject.directory} ({subject.quantization}, {subject.rounding})"
