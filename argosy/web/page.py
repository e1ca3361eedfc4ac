"""Find the built chat page: that of the wheel or, in a checkout, the one that npm builds from the sources.

A page in a checkout stores the digest of its sources, and is built again when they change.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from argosy.support.errors import ArgosyError, TargetError
from argosy.support.files import TEMP_MARK, directory_lock
from argosy.support.progress import Progress
from argosy.web.tools import NODE_NEEDED, node_version

STATIC = Path(__file__).parent / "static"
SOURCES = Path(__file__).parents[2] / "runtime_bindings" / "web"  # in a checkout; a wheel has none
DIGEST_NAME = ".sources"
COMMANDS = "cd runtime_bindings/web && npm ci && npm run build:page"
_NOT_SOURCES = {"node_modules", "dist", "build", "test", "tests", "example", "examples"}
_SUFFIXES = {".ts", ".js", ".mjs", ".css", ".html", ".json", ".svg", ".png", ".webmanifest"}


def find_page(
    progress: Progress, report: Callable[[str], None], static: Path = STATIC, sources: Path = SOURCES
) -> Path:
    """Return the folder of the page, built first if its sources have changed.

    `report` receives a note if an outdated page cannot be built again. Raises ArgosyError if there is no page and none
    can be built.
    """
    if is_built(static) and not (_has_sources(sources) and _digest_of(static) != source_digest(sources)):
        return static
    try:
        npm = find_npm(sources)
    except ArgosyError as error:
        if not is_built(static):
            raise
        report(f"note: the chat page is older than its sources, and {error.message}")
        return static
    with directory_lock(static.parent):
        _build(npm, static, sources, progress)
    return static


def is_built(static: Path = STATIC) -> bool:
    """Return whether there is a page, up to date or not."""
    return (static / "index.html").is_file()


def find_npm(sources: Path = SOURCES) -> str:
    """Return the npm that builds the page, after checking that Node.js is recent enough.

    Raises ArgosyError if the page cannot be built here.
    """
    if not _has_sources(sources):
        sentence = "this installation holds no chat page: it was made from a checkout in which the page was not built"
        raise ArgosyError(sentence, "`make wheel` in the checkout makes one that holds it")
    wanted = ".".join(map(str, NODE_NEEDED))
    hint = f"install Node.js {wanted} or newer with npm: `argosy web` then builds the page, or {COMMANDS}"
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise TargetError(f"`{'npm' if node else 'node'}` is not there to build the chat page", hint)
    version = node_version(node) or (0,)
    if version < NODE_NEEDED:
        raise TargetError(f"Node.js `{'.'.join(map(str, version))}` is too old to build the chat page", hint)
    return npm


def source_digest(sources: Path) -> str:
    """Return the SHA-256 over the names and contents of the page's sources."""
    digest = hashlib.sha256()
    for path in sorted(_source_files(sources)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(sources).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _has_sources(sources: Path) -> bool:
    return (sources / "package.json").is_file()


def _source_files(sources: Path) -> list[Path]:
    found = []
    for folder, folders, files in os.walk(sources):
        folders[:] = [name for name in folders if name not in _NOT_SOURCES and not name.startswith(".")]
        found += [Path(folder, name) for name in files if Path(name).suffix in _SUFFIXES and ".test." not in name]
    return found


def _digest_of(static: Path) -> str | None:
    try:
        return (static / DIGEST_NAME).read_text("ascii")
    except (OSError, UnicodeError):
        return None


def _build(npm: str, static: Path, sources: Path, progress: Progress) -> None:
    """Install the packages of the lock file if they are missing, build beside `static`, and rename."""
    digest = source_digest(sources)
    if not _has_packages(sources):
        progress.report("install the page's packages", 0, 1)
        _run([npm, "ci", "--no-audit", "--no-fund"], sources)
    progress.report("build the chat page", 0, 1)
    with tempfile.TemporaryDirectory(prefix=TEMP_MARK, dir=static.parent) as folder:
        made = Path(folder) / "static"
        _run([npm, "run", "build:page", "--", "--outDir", str(made), "--emptyOutDir"], sources)
        if not is_built(made):
            raise ArgosyError(f"`npm run build:page` in `{sources}` made no `index.html`", COMMANDS)
        (made / DIGEST_NAME).write_text(digest, "ascii")
        if static.exists():
            os.replace(static, Path(folder) / "before")
        os.replace(made, static)
    progress.report("build the chat page", 1, 1)


def _has_packages(sources: Path) -> bool:
    """Return whether `node_modules` has the versions of the lock file."""
    wanted = _versions(sources / "package-lock.json")
    return bool(wanted) and wanted.items() <= _versions(sources / "node_modules" / ".package-lock.json").items()


def _versions(lock: Path) -> dict[str, str]:
    """Map package folders to versions, from a lock file of npm, leaving out optional packages."""
    try:
        packages = json.loads(lock.read_text("utf-8"))["packages"].items()
        return {name: entry.get("version", "") for name, entry in packages if name and not entry.get("optional")}
    except (OSError, ValueError, KeyError, AttributeError):
        return {}


def _run(command: list[str], folder: Path) -> None:
    """Run a command. Raises ArgosyError with its first error message if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode == 0:
        return
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    reason = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it printed nothing")
    words = " ".join(["npm", *command[1:3]])
    sentence = f"the chat page cannot be built: `{words}` failed: {reason[:200]}"
    raise ArgosyError(sentence, f"to see all of it: {COMMANDS}")
