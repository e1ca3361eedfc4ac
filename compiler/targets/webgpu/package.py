"""Link an executable and the runtime into one WebAssembly module."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from argosy.compiler.targets.webgpu.pack.cache import runtime_pack
from argosy.compiler.targets.webgpu.pack.programs import Programs
from argosy.compiler.targets.webgpu.pack.toolchain import find_toolchain
from argosy.support.progress import Progress, SilentProgress

if TYPE_CHECKING:
    import tvm


def package(executable: tvm.runtime.Executable, path: Path, progress: Progress | None = None) -> None:
    """Link `executable`, whose host is wasm32, and the runtime into the module `path`.

    The same executable gives the same bytes. If the runtime is not in the cache, it is compiled first, which takes a
    minute. Raises TargetError if there is no toolchain, CompileError if it fails.
    """
    toolchain = find_toolchain()
    pack = runtime_pack(toolchain, progress or SilentProgress())
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        executable.export_library(str(scratch / "model.tar"), workspace_dir=str(scratch))
        with tarfile.open(scratch / "model.tar") as archive:
            objects = _extract(archive, scratch / "model")
        linked = scratch / "linked.wasm"
        with Programs() as programs:
            programs.execute(toolchain.link(pack, objects, linked), toolchain.environment(scratch))
        path.write_bytes(linked.read_bytes())


def prepare(progress: Progress) -> None:
    """Compile the runtime if it is not in the cache, so that a missing tool is known before a model is compiled."""
    runtime_pack(find_toolchain(), progress)


def _extract(archive: tarfile.TarFile, directory: Path) -> list[Path]:
    """Extract the object files of `archive` into the new folder `directory`, and return them in order of name."""
    directory.mkdir()
    objects = []
    for member in sorted(archive.getmembers(), key=lambda member: member.name):
        content = archive.extractfile(member)
        if content is not None and member.name.endswith(".o"):
            objects.append(directory / Path(member.name).name)
            objects[-1].write_bytes(content.read())
    return objects
