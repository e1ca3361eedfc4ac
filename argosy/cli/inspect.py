"""`argosy inspect`: show the contents of an artefact, a library or a debug dump."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from argosy.cli import console
from argosy.cli.base import ModelName, json_option
from argosy.cli.base import command as argosy_command

_SHOWN = (
    "abi", "argosy_version", "tvm_version", "model_type", "quantization", "target", "context_window_size",
    "prefill_chunk_size", "max_batch_size", "vocab_size", "hidden_size", "num_layers", "kv_dtype",
    "kv_bytes_per_token", "weights_layout",
)  # fmt: skip


@argosy_command(
    "inspect",
    examples=[
        "argosy inspect dist/out/smollm2-135m-q4f16_1",
        "argosy inspect dist/out/smollm2-135m-q4f16_1/smollm2-135m-q4f16_1-cpu.so --json",
        "argosy inspect --diff dump-before dump-after",
    ],
)
@click.argument("path", type=ModelName(), metavar="LIBRARY|DIR")
@click.argument("other", required=False, metavar="")
@click.option("--diff", "diff", is_flag=True, help="Compare two directories written by --debug-dump, phase by phase.")
@json_option
def command(path: str, other: str | None, diff: bool, as_json: bool) -> None:
    """Show a library's metadata, an artefact's files, or the phases of a debug dump.

    Libraries are read as data: none of their code runs, and they may be for another machine.
    """
    if diff != (other is not None):
        raise click.UsageError("--diff takes two directories, and without it there is one path only")
    if other is not None:
        _show_difference(Path(path), Path(other), as_json)
        return
    from argosy import inspection
    from argosy.dist.library_file import library_metadata
    from argosy.dist.store import find_artefact

    place = Path(path)
    if not place.is_file():
        place = find_artefact(path)
    if place.is_dir() and inspection.is_dump(place):
        _show_dump(place, as_json)
    elif place.is_dir():
        _show_artefact(place, as_json)
    else:
        _show_library(library_metadata(place), as_json)


def _show_library(metadata: dict[str, object], as_json: bool) -> None:
    if as_json:
        console.data_json(metadata)
        return
    rows = [(name, _plain(metadata[name])) for name in (*_SHOWN, "error") if name in metadata]
    params = metadata.get("params")
    if isinstance(params, list):
        rows.append(("params", f"{len(params)} tensors (--json lists them)"))
    console.table(("library", ""), rows)


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items() if item)
    return f"({len(value)})" if isinstance(value, list) else str(value)


def _show_artefact(directory: Path, as_json: bool) -> None:
    from argosy import inspection
    from argosy.support.errors import ArtefactError
    from argosy.support.text import human_size

    files = inspection.artefact_files(directory)
    libraries = inspection.libraries_in(directory)
    if not any(row.what != "unknown" for row in files):
        hint = "`argosy list artefacts` shows what is built"
        raise ArtefactError(f"`{directory}` holds nothing that argosy has built", hint)
    if as_json:
        metadata = {path.name: _metadata_or_error(path) for path in libraries}
        console.data_json(
            {"directory": str(directory), "files": [dataclasses.asdict(row) for row in files], "libraries": metadata}
        )
        return
    console.table(("file", "size", "what it is"), ((row.name, human_size(row.nbytes), row.what) for row in files))
    for path in libraries:
        console.data(f"\n{path.name}")
        _show_library(_metadata_or_error(path), as_json=False)


def _metadata_or_error(path: Path) -> dict[str, object]:
    """Return the metadata of a library; for one that has none, `error` and the reason."""
    from argosy.dist.library_file import library_metadata
    from argosy.support.errors import ArtefactError

    try:
        return library_metadata(path)
    except ArtefactError as error:
        return {"error": error.message}


def _show_dump(directory: Path, as_json: bool) -> None:
    from argosy import inspection
    from argosy.support.text import human_size

    phases = inspection.dump_phases(directory)
    if as_json:
        console.data_json({phase: str(path) for phase, path in phases.items()})
        return
    console.table(
        ("phase", "size", "file"), ((name, human_size(path.stat().st_size), str(path)) for name, path in phases.items())
    )


def _show_difference(before: Path, after: Path, as_json: bool) -> None:
    from argosy.inspection import compare_dumps

    found = list(compare_dumps(before, after))
    if as_json:
        console.data_json([{"phase": phase.phase, "added": phase.added, "removed": phase.removed} for phase in found])
        return
    for phase in found:
        verdict = "the same" if not phase.lines else f"{phase.added} lines added, {phase.removed} removed"
        console.data(console.styled(f"{phase.phase}: {verdict}", bold=True))
        for line in phase.lines:
            console.data(console.styled(line, fg={"+": "green", "-": "red", "@": "cyan"}.get(line[:1])))
