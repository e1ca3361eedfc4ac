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
    from argosy.evaluation.compare import Report

_FILE = click.Path(path_type=Path, dir_okay=False)


@argosy_command(
    "eval",
    examples=[
        "argosy eval dist/out/smollm2-135m-q4f16_1",
        "argosy eval smollm2-135m-q4f16_1 --text my.txt --json",
        "argosy eval smollm2-135m-q4f16_1 --self-sample 800",
    ],
)
@click.argument("artefact", metavar="DIR|MODEL")
@click.option(
    "--text", type=_FILE, metavar="FILE", help="A UTF-8 text to read.  [default: a chapter of Alice in Wonderland]"
)
@click.option(
    "--self-sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="Instead of a text, N tokens that the reference itself says; the sharper test of a chat model.",
)
@click.option(
    "--reference",
    metavar="DIR|MODEL",
    help="The artefact to compare with.  [default: q0f32 of the same checkpoint, built if there is none]",
)
@json_option
def command(artefact: str, text: Path | None, self_sample: int | None, reference: str | None, as_json: bool) -> None:
    """Measure an artefact: perplexity, KL divergence from the unquantized model, share of equal top tokens."""
    from argosy.evaluation.compare import Evaluation, evaluate
    from argosy.places import find_artefact
    from argosy.support.progress import open_progress

    against = find_artefact(reference) if reference else None
    with open_progress() as progress:
        report = evaluate(Evaluation(find_artefact(artefact), text, self_sample, against), progress)
    if as_json:
        console.data_json(dataclasses.asdict(report))
    else:
        _show(report)


def _show(report: Report) -> None:
    found = report.divergence
    rows = [
        ("artefact", f"{report.artefact.directory} ({report.artefact.quantization}, {report.artefact.rounding})"),
        ("reference", f"{report.reference.directory} ({report.reference.quantization})"),
        ("text", f"{report.text}, {found.tokens} tokens"),
        ("perplexity", f"{found.perplexity:.3f} (reference {found.reference_perplexity:.3f})"),
        ("KL divergence", f"{found.kl_mean:.3g} ± {found.kl_error:.1g} nats a token"),
        ("", f"median {found.kl_median:.3g}, 99 % below {found.kl_p99:.3g}"),
        ("same top token", f"{100 * found.same_top:.1f} %"),
    ]
    console.table(("", ""), rows)
