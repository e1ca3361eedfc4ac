"""Compile the runtime pack into the user's cache, once for each combination of TVM, toolchain, flags and sources.

A pack is compiled in a temporary directory and renamed, under a lock that other processes wait for. It lists the
digests of its files; a pack that does not match its list is compiled again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from argosy.compiler.targets.webgpu.pack.programs import Programs
from argosy.compiler.targets.webgpu.pack.sources import TvmSources, digest_of_ours, lay_out, tvm_sources
from argosy.compiler.targets.webgpu.pack.toolchain import Job, Toolchain
from argosy.support import env
from argosy.support.errors import ArgosyError
from argosy.support.files import TEMP_MARK, disk_space_guard, sha256_file
from argosy.support.progress import Progress
from argosy.support.threads import physical_cores

STAGE = "compile the browser's runtime"
LIST = "pack.json"


def cache_root() -> Path:
    """Return the folder of all packs: below ARGOSY_CACHE, or in the user's cache directory."""
    chosen = env.CACHE.get()
    if chosen is None:
        default = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
        chosen = Path(os.environ.get("XDG_CACHE_HOME", "") or default) / "argosy"
    return chosen / "webgpu"


def pack_key(toolchain: Toolchain, tvm_version: str) -> str:
    """Return 24 hexadecimal digits that identify what a pack is made from."""
    parts = (tvm_version, toolchain.name, toolchain.version, toolchain.flags, digest_of_ours())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def runtime_pack(toolchain: Toolchain, progress: Progress) -> Path:
    """Return the directory of the compiled pack, after compiling it if it is not in the cache.

    Raises CompileError if the compiler fails, ArgosyError if the cache cannot be written to.
    """
    sources = tvm_sources()
    pack = cache_root() / pack_key(toolchain, sources.version)
    if is_whole(pack):
        return pack
    with _locked(pack):
        if not is_whole(pack):  # another process may have compiled it in the meantime
            with disk_space_guard(pack):
                _compile_into(pack, toolchain, sources, progress)
    return pack


def is_whole(pack: Path) -> bool:
    """Return whether the directory has every file of its list, unaltered."""
    try:
        digests = json.loads((pack / LIST).read_text())["files"]
        return bool(digests) and all(sha256_file(pack / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _compile_into(pack: Path, toolchain: Toolchain, sources: TvmSources, progress: Progress) -> None:
    """Compile the pack in a temporary directory and rename it to `pack`."""
    with tempfile.TemporaryDirectory(prefix=TEMP_MARK, dir=pack.parent) as temporary:
        scratch, made = Path(temporary), Path(temporary) / "pack"
        made.mkdir()
        tree = scratch / "tree"
        includes = [f"-I{directory}" for directory in lay_out(tree, sources)]
        jobs = toolchain.jobs(tree)
        steps = len(jobs) + 1
        progress.report(STAGE, 0, steps)

        def compile_one(job: Job) -> None:
            command = [*job.command, *includes, "-c", "-o", str(made / job.name), str(job.source)]
            programs.execute(command, toolchain.environment(scratch), tree)

        with ThreadPoolExecutor(max(1, physical_cores())) as pool, Programs() as programs:
            work = [pool.submit(toolchain.gather, made, scratch, programs.execute)]  # the longest first
            work += [pool.submit(compile_one, job) for job in jobs]
            for done, future in enumerate(as_completed(work), 1):
                future.result()
                progress.report(STAGE, done, steps)
        digests = {path.name: sha256_file(path) for path in sorted(made.iterdir())}
        (made / LIST).write_text(json.dumps({"toolchain": toolchain.version, "files": digests}, indent=2) + "\n")
        if pack.exists():  # incomplete or altered
            shutil.rmtree(pack)
        os.rename(made, pack)


@contextlib.contextmanager
def _locked(pack: Path) -> Iterator[None]:
    """Hold the lock of `pack`, after waiting for any other process that holds it."""
    lock = pack.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ArgosyError(
            f"the cache `{lock.parent}` cannot be written to: {error.strerror}", "choose another with ARGOSY_CACHE=DIR"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
