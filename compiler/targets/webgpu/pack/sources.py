"""Lay out the sources of the pack: TVM's in the installed wheel, and ours where the wheel lacks some.

The wheel ships the runtime's sources without the headers for streams, and with parts that a browser has no use for.
Our files come first in the source tree, with empty files in place of those parts; includes then fall back on the wheel.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

OURS = Path(__file__).parent / "cpp"
UNITS = ("runtime.cc", "device.cc", "javascript.cc")  # slowest first
WASI_UNITS = ("wasi.cc",)

# Left out although `web/emcc/wasm_runtime.cc` includes them: remote calls, sorting on the host, tests.
OMITTED = (
    *(
        f"src/runtime/rpc/rpc_{part}.cc"
        for part in ("channel", "endpoint", "event_impl", "local_session", "module", "session")
    ),
    "src/runtime/extra/contrib/sort/sort.cc",
)
OMITTED_FFI = ("testing/testing.cc",)


@dataclass(frozen=True, slots=True)
class TvmSources:
    """The installed TVM: its version, and the package directories of its two wheels."""

    version: str
    tvm: Path
    ffi: Path


def tvm_sources() -> TvmSources:
    """Return the sources of the installed TVM."""
    import tvm
    import tvm_ffi

    version = f"{tvm.__version__}+ffi-{tvm_ffi.__version__}"
    return TvmSources(version, Path(tvm.__file__).parent, Path(tvm_ffi.__file__).parent)


def digest_of_ours() -> str:
    """Return the SHA-256 of the names and bytes of our sources and the names of the files left out."""
    digest = hashlib.sha256()
    for path in sorted(path for path in OURS.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(OURS).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    digest.update("\0".join((*OMITTED, *OMITTED_FFI)).encode())
    return digest.hexdigest()


def lay_out(tree: Path, sources: TvmSources) -> list[Path]:
    """Fill the new directory `tree` and return the directories to include from, ours before TVM's."""
    shutil.copytree(OURS, tree)
    for name in OMITTED:
        _write_empty(tree / name)
    (tree / "src/runtime/vm").mkdir(parents=True, exist_ok=True)  # `../../support` is resolved from here
    ffi = tree / "3rdparty/tvm-ffi/src/ffi"
    shutil.copytree(sources.ffi / "src" / "ffi", ffi)
    for name in OMITTED_FFI:
        _write_empty(ffi / name)
    return [
        tree,
        tree / "include",
        tree / "src/runtime",
        tree / "src/runtime/vm",
        sources.tvm,
        sources.tvm / "include",
        sources.ffi / "include",
        sources.ffi / "3rdparty/dlpack/include",
    ]


def _write_empty(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
