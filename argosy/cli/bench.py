"""`argosy bench`: measure the speed of artefacts, beside that of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from argosy.cli import console
from argosy.cli.base import ModelName
from argosy.cli.base import command as argosy_command
from argosy.support.errors import ArgosyError, UsageError

if TYPE_CHECKING:
    from argosy.bench.workload import BenchmarkPlan

_FILE = click.Path(path_type=Path, dir_okay=False)
_POSITIVE = click.IntRange(min=1)


class Numbers(click.ParamType):
    """Positive whole numbers separated by commas, such as `8,512,2000`."""

    name = "n,n,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        try:
            numbers = tuple(dict.fromkeys(int(word) for word in str(value).split(",")))
        except ValueError:
            numbers = (0,)
        if min(numbers) < 1:
            self.fail(f"`{value}` is not a list of whole numbers from 1, such as 8,512", param, ctx)
        return numbers


@argosy_command(
    "bench",
    examples=[
        "argosy bench smollm2-135m-q4f16_1",
        "argosy bench dist/out/smollm2-135m-q4f16_1 --vs llama.cpp --json bench.json --plot bench.svg",
        "argosy bench smollm2-135m-q4f16_1 smollm2-135m-keep --vs llama.cpp,openvino --threads 2",
    ],
)
@click.argument("artefacts", type=ModelName(), metavar="DIR|MODEL...", nargs=-1)
@click.option("--vs", metavar="NAME,...", help="Compare with these programs, in turns: llama.cpp, openvino.")
@click.option(
    "--contexts", type=Numbers(), metavar="N,...", help="Measure decoding after N tokens.  [default: 8,512,2000]"
)
@click.option(
    "--prefill", "prefills", type=Numbers(), metavar="N,...", help="Measure reading N tokens.  [default: 128,512,2000]"
)
@click.option("--batch", type=_POSITIVE, metavar="N", help="Sequences to decode together; 1 skips this.  [default: 8]")
@click.option("--threads", type=_POSITIVE, metavar="N", help="Threads for every program.  [default: one per core]")
@click.option("--repeats", type=_POSITIVE, metavar="N", help="Samples of each speed.  [default: 7]")
@click.option("--quick", is_flag=True, help="Contexts and prefills up to 512, three samples, one start.")
@click.option("--build", "with_build", is_flag=True, help="Also time building each artefact from scratch.")
@click.option(
    "--json", "json_file", metavar="[FILE]", is_flag=False, flag_value="-",
    help="Print the report as JSON instead of tables, or write it to FILE beside them.",
)
@click.option("--plot", type=_FILE, metavar="FILE", help="Plot the speeds to FILE, .svg or .png.")
def command(
    artefacts: tuple[str, ...], vs: str | None, threads: int | None, quick: bool, with_build: bool,
    json_file: str | None, plot: Path | None, **sizes: Any,
) -> None:  # fmt: skip
    """Measure an artefact's speed: decoding, prefill, startup, memory, and share of memory bandwidth.

    With --vs, other programs answer the same requests in the same run, with weights of the same width and with the
    GGUF file as it is. Programs stay loaded and take turns, so that a slow minute slows all of them. Measure on an idle
    machine: on a busy one, programs whose threads wait for each other in loops suffer most.
    """
    from argosy.bench.peers import programs_named
    from argosy.bench.plot import check_plot, write_plot
    from argosy.bench.run import BenchmarkRequest, bench, command_line
    from argosy.dist.store import find_artefact
    from argosy.support.files import atomic_path
    from argosy.support.progress import open_progress

    artefacts, json_file = _apart(artefacts, json_file)
    if plot is not None:
        check_plot(plot)
    for path in (plot, Path(json_file) if json_file and json_file != "-" else None):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"there is no directory `{path.parent}` to write `{path.name}` into")
    programs = programs_named([name.strip() for name in vs.split(",")]) if vs else ()
    directories = tuple(find_artefact(name) for name in artefacts)
    with open_progress() as progress:
        report = bench(BenchmarkRequest(directories, programs, _plan(quick, sizes), threads, with_build), progress)
    report["command"] = command_line()
    if plot is not None:
        report["plot"] = plot.name
        write_plot(report, plot)
    if json_file == "-":
        console.data_json(report)
        return
    if json_file is not None:
        with atomic_path(Path(json_file)) as temporary:
            temporary.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _show(report)


def _apart(artefacts: tuple[str, ...], json_file: str | None) -> tuple[tuple[str, ...], str | None]:
    """Tell `--json FILE` and `--json MODEL` apart. Raises UsageError if there is no artefact to measure."""
    if json_file and json_file != "-" and not json_file.endswith(".json") and _is_model(json_file):
        artefacts, json_file = (json_file, *artefacts), "-"
    if not artefacts:
        raise UsageError("a model is missing", "argosy bench MODEL; `argosy ls` lists what is built")
    return artefacts, json_file


def _is_model(name: str) -> bool:
    from argosy.dist.store import find_artefact

    try:
        return find_artefact(name).is_dir()
    except ArgosyError:
        return False


def _plan(quick: bool, sizes: dict[str, Any]) -> BenchmarkPlan:
    """Return the full plan, or that of `--quick`, with the sizes that were given."""
    from argosy.bench.workload import QUICK, BenchmarkPlan

    given = {name: value for name, value in sizes.items() if value is not None}
    return BenchmarkPlan(**{**(QUICK if quick else {}), **given})


def _show(report: dict[str, Any]) -> None:
    from argosy.bench.tables import setting, tables

    console.data(setting(report))
    for table in tables(report):
        console.data("\n", console.styled(table.title, bold=True))
        console.table(table.headings, table.rows)
        for note in table.notes:
            console.data(note)
