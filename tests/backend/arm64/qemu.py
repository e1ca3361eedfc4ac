"""Call libraries compiled for 64-bit ARM on another machine, in `qemu-aarch64`.

`driver.cc` runs in the emulator with TVM's libraries and executes commands from a pipe. `setup.sh` installs what this
needs.
"""

from __future__ import annotations

import functools
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi

from argosy.compiler.targets.cpu.link import link_shared
from argosy.dist.cpu_features import architecture

HERE = Path(__file__).parent
TOOLS = HERE.parents[2] / ".venv" / "arm64"  # where setup.sh puts TVM's libraries
LIBRARIES = ("libtvm_runtime_extra.so", "libtvm_runtime.so", "libtvm_ffi.so")
COMPILER = "aarch64-linux-gnu-g++"
SYSROOT = Path("/usr/aarch64-linux-gnu")


def missing() -> str | None:
    """Explain why nothing can be emulated here, or return None."""
    if architecture() == "aarch64":
        return "this machine is 64-bit ARM itself: the other tests cover it"
    for name in ("qemu-aarch64", COMPILER):
        if shutil.which(name) is None:
            return f"`{name}` is missing; tests/backend/arm64/setup.sh installs it"
    for name in LIBRARIES:
        if not (TOOLS / name).is_file():
            return f"TVM's `{name}` for arm64 is missing; tests/backend/arm64/setup.sh fetches it"
    return None


@functools.cache
def _driver() -> Path:
    """Compile the driver."""
    source, made = HERE / "driver.cc", TOOLS / "driver"
    if not made.is_file() or made.stat().st_mtime < source.stat().st_mtime:
        includes = [f"-I{folder}" for folder in tvm_ffi.libinfo.include_paths()]
        needed = [f"-l{name.removeprefix('lib').removesuffix('.so')}" for name in LIBRARIES]
        linking = [f"-L{TOOLS}", "-Wl,--no-as-needed", *needed, "-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined"]
        subprocess.run([COMPILER, "-std=c++17", "-O1", *includes, str(source), "-o", str(made), *linking], check=True)
    return made


class Remote:
    """A process in the emulator. `cpu` is a name of qemu's: `max` has everything, `neoverse-n1` lacks i8mm."""

    def __init__(self, cpu: str) -> None:
        command = ["qemu-aarch64", "-cpu", cpu, "-L", str(SYSROOT), "-E", "TVM_NUM_THREADS=2", str(_driver())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.names = (f"v{i}" for i in range(1 << 30))
        self.folder = tempfile.TemporaryDirectory()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=20)
        self.folder.cleanup()

    def ask(self, line: str, payload: bytes = b"") -> list[str]:
        """Send a command and return the words of its reply."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line.encode() + b"\n" + payload)
        self.process.stdin.flush()
        words = self.process.stdout.readline().decode().split()
        if not words or words[0] == "error":
            raise RuntimeError(f"`{line.split()[0]}`: {' '.join(words) or 'the emulated process died'}")
        return words

    def bytes(self, count: int) -> bytes:
        """Read the bytes that follow a reply."""
        assert self.process.stdout is not None
        return self.process.stdout.read(count)

    def value(self, line: str, *rest: str, payload: bytes = b"") -> Value:
        """Create a value with the command `line NAME rest`."""
        name = next(self.names)
        self.ask(" ".join([line, name, *rest]), payload)
        return Value(self, name)

    def send(self, value: Any) -> str:
        """Send a value of this process; return the word that names it."""
        if isinstance(value, Value):
            return value.name
        if isinstance(value, int):
            return f"={value}"
        if isinstance(value, tvm.runtime.ShapeTuple):
            return self.value("shape", *map(str, value)).name
        if isinstance(value, Sequence):
            return self.value("array", *map(self.send, value)).name
        array = np.ascontiguousarray(value.numpy())
        extents = map(str, array.shape)
        return self.value("tensor", str(array.dtype), str(array.nbytes), *extents, payload=array.tobytes()).name

    def load(self, executable: Any) -> Value:
        """Link an executable for arm64 and load it there."""
        path = Path(self.folder.name) / f"{next(self.names)}.so"
        executable.export_library(str(path), fcompile=functools.partial(link_shared, arch="aarch64"))
        return self.value("load", str(path))

    def function(self, name: str, module: str = "-") -> Callable[..., Value]:
        """Get a function of a module, or a global one."""
        return lambda *arguments: self.value("call", module, name, *map(self.send, arguments))

    def kernel(self, name: str, module: str) -> Callable[..., None]:
        """Get a function that writes into some of its arguments, which are tensors of this process."""

        def call(*tensors: tvm.runtime.Tensor) -> None:
            sent = [Value(self, self.send(tensor)) for tensor in tensors]
            self.value("call", module, name, *(value.name for value in sent))
            for tensor, value in zip(tensors, sent, strict=True):
                tensor.copyfrom(value.numpy())
                self.ask(f"free {value.name}")

        return call


class Value:
    """A reference to a value in the emulated process."""

    def __init__(self, remote: Remote, name: str) -> None:
        self.remote, self.name = remote, name

    def numpy(self) -> np.ndarray:
        """Copy a tensor to this process."""
        kind, dtype, count, *extents = self.remote.ask(f"read {self.name}")
        assert kind == "tensor"
        shape = tuple(map(int, extents))
        assert int(count) == math.prod(shape) * np.dtype(dtype).itemsize
        return np.frombuffer(self.remote.bytes(int(count)), dtype).reshape(shape)

    def __str__(self) -> str:
        kind, count = self.remote.ask(f"read {self.name}")
        assert kind == "text"
        return self.remote.bytes(int(count)).decode()

    def __iter__(self) -> Iterator[Value]:
        kind, count = self.remote.ask(f"read {self.name}")
        assert kind == "array"
        return iter([self.remote.value("item", self.name, str(i)) for i in range(int(count))])


class Machine:
    """A stand-in for TVM's `VirtualMachine`, which runs in the emulator."""

    def __init__(self, remote: Remote, executable: tvm.runtime.Executable) -> None:
        self.remote = remote
        self.vm = remote.value("vm", remote.load(executable).name)
        self.module = self

    def __getitem__(self, name: str) -> Callable[..., Value]:
        return self.remote.function(name, self.vm.name)

    def implements_function(self, name: str) -> bool:
        """Whether the library exports `name`."""
        return self.remote.ask(f"has {self.vm.name} {name}") == ["yes"]

    def get_function(self, name: str, query_imports: bool) -> Callable[..., None]:
        """Get a kernel of the library."""
        return self.remote.kernel(name, self.vm.name)
