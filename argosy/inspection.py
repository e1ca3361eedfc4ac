"""Read what `argosy inspect` shows of an artefact or a debug dump."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from argosy.dist.triples import LIBRARY_SUFFIXES
from argosy.support.errors import ArtefactError

_PHASE = re.compile(r"\d\d-(?P<name>.+)\.(py|ll|txt|c|s)")


@dataclass(frozen=True, slots=True)
class FileRow:
    """A file of an artefact directory, and its purpose."""

    name: str
    nbytes: int
    what: str


_PURPOSES = (
    (r"argosy-manifest\.json", "what was built from what, with the SHA-256 of every file"),
    (r"argosy-manifest\.json\.minisig", "signature of the manifest"),
    (r"mlc-chat-config\.json", "sizes, sampling defaults, special tokens"),
    (r"tensor-cache\.json", "where each tensor lies in the shards"),
    (r"params_shard_\d+\.bin", "weights"),
    (r"tokenizer.*|special_tokens_map\.json|chat_template\.jinja", "tokenizer and chat template"),
    (r"generation_config\.json", "sampling defaults of the checkpoint"),
    (r".*\.(so|dylib|dll|wasm)", "compiled library"),
)


def artefact_files(directory: Path) -> list[FileRow]:
    """List the files of `directory` by name."""
    files = sorted(path for path in directory.iterdir() if path.is_file())
    return [FileRow(path.name, path.stat().st_size, _purpose(path.name)) for path in files]


def _purpose(name: str) -> str:
    return next((what for pattern, what in _PURPOSES if re.fullmatch(pattern, name)), "unknown")


def libraries_in(directory: Path) -> list[Path]:
    """List the compiled libraries of an artefact directory, for whatever machine."""
    return sorted(path for path in directory.iterdir() if path.suffix in LIBRARY_SUFFIXES)


def is_dump(directory: Path) -> bool:
    """Return whether `directory` was written by --debug-dump."""
    return directory.is_dir() and bool(dump_phases(directory))


def dump_phases(directory: Path) -> dict[str, Path]:
    """Map the phases of a debug dump to their files, in the order of compilation."""
    found = ((_PHASE.fullmatch(path.name), path) for path in sorted(directory.iterdir()))
    return {match["name"]: path for match, path in found if match}


@dataclass(frozen=True, slots=True)
class PhaseDifference:
    """The difference of one phase between two dumps; `lines` is a unified diff. A phase may be missing from either."""

    phase: str
    added: int
    removed: int
    lines: tuple[str, ...]


def compare_dumps(before: Path, after: Path) -> Iterator[PhaseDifference]:
    """Compare each phase of two dumps, in the order of compilation.

    Raises ArtefactError if one of the directories is not a dump.
    """
    for directory in (before, after):
        if not is_dump(directory):
            raise ArtefactError(
                f"`{directory}` is not a debug dump",
                f"argosy compile --model MODEL --debug-dump {directory} writes one",
            )
    old, new = dump_phases(before), dump_phases(after)
    for phase in [*old, *(name for name in new if name not in old)]:
        one, other = old.get(phase), new.get(phase)
        names = [str(path or "(not there)") for path in (one, other)]
        lines = tuple(difflib.unified_diff(_lines(one), _lines(other), names[0], names[1], lineterm=""))
        body = lines[2:]
        yield PhaseDifference(
            phase, sum(line.startswith("+") for line in body), sum(line.startswith("-") for line in body), lines
        )


def _lines(path: Path | None) -> list[str]:
    return [] if path is None else path.read_text("utf-8", "replace").splitlines()
