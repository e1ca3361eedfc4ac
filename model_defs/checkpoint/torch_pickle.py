"""Check what the pickle in a PyTorch file makes, without making it: tensors over storages that the file holds, whole.

`torch.load` executes nothing under `weights_only`, but it accepts storages whose bytes the file lacks, and tensors that
are made without any: their values are whatever the memory held before.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

CALLED = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}
WIDTHS = {  # bytes of an element
    "DoubleStorage": 8, "FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "IntStorage": 4,
    "ShortStorage": 2, "CharStorage": 1, "ByteStorage": 1, "BoolStorage": 1, "UntypedStorage": 1,
}  # fmt: skip
PICKLE_LIMIT = 2 << 20  # bytes; 7000 tensors, ten times those of any one file
HEADERS = 3  # pickles before that of the tensors, in files older than PyTorch 1.6


class PickleTooLargeError(Exception):
    """A pickle is so long that reading it would take seconds."""


class StorageError(Exception):
    """A file makes a tensor of something other than bytes that it holds."""


def check_archive_storages(path: Path) -> None:
    """Check the zip archive at `path`. Raises StorageError."""
    with zipfile.ZipFile(path) as archive:
        sizes: dict[str, int] = {}
        for member in archive.infolist():
            if member.filename in sizes:
                raise StorageError(f"the archive has two members `{member.filename}`")
            sizes[member.filename] = member.file_size
        name = next((name for name in sizes if name.count("/") == 1 and name.endswith("/data.pkl")), None)
        if name is None:
            raise StorageError("the archive has no `data.pkl`")
        storages = _storages(io.BytesIO(archive.read(name)))
    for key, size in storages.items():
        held = sizes.get(name.removesuffix("data.pkl") + "data/" + key)
        if held != size:
            raise StorageError(f"the storage `{key}` has {held or 0} bytes instead of {size}")


def check_old_pickles(path: Path) -> None:
    """Check the length of the pickles in a file of PyTorch before 1.6. Raises PickleTooLargeError."""
    with open(path, "rb") as file:
        front = file.read(PICKLE_LIMIT)
        whole = not file.read(1)
    try:
        rest = io.BytesIO(front)
        for _ in range(HEADERS + 2):
            _Inspector(rest).load()
    except EOFError:
        if not whole:
            raise PickleTooLargeError from None
    except Exception as error:  # whatever is wrong with it, `torch.load` says so
        if not whole and rest.tell() == len(front):
            raise PickleTooLargeError from error


def check_old_storages(path: Path) -> None:
    """Check a file of PyTorch before 1.6: pickles, the last of which lists the storages that follow.

    Raises StorageError.
    """
    with open(path, "rb") as file:
        for _ in range(HEADERS):
            _Inspector(file).load()
        storages = _storages(file)
        listed = _Inspector(file).load()
    missing = storages.keys() - set(listed if isinstance(listed, list) else ())
    if missing:
        raise StorageError(f"the file does not hold the storage `{min(missing)}`")


def _storages(file: io.BufferedIOBase) -> dict[str, int]:
    """Return the size in bytes of each storage that the next pickle in `file` uses, by its key."""
    inspector = _Inspector(file)
    inspector.load()
    return inspector.storages


class _Made:
    """Stands for an object that unpickling would make; takes any content."""

    def __setitem__(self, key: object, value: object) -> None: ...
    def append(self, value: object) -> None: ...
    def extend(self, values: object) -> None: ...
    def __setstate__(self, state: object) -> None: ...


class _Named:
    """Stands for a function or a class, which a pickle names by its module and its name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self, *arguments: object) -> _Made:
        if (self.module, self.name) not in CALLED:
            raise StorageError(f"the file makes something by `{self.module}.{self.name}`")
        return _Made()


class _Inspector(pickle._Unpickler):
    """Unpickles stand-ins, and notes the storages. In Python, because the version in C allocates what a file claims."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> _Named:
        return _Named(module, name)

    def persistent_load(self, pid: object) -> _Made:
        match pid:
            case ("storage", _Named(name=kind), str(key), _, int(count), *_) if kind in WIDTHS:
                size = count * WIDTHS[kind]
                if self.storages.setdefault(key, size) != size:
                    raise StorageError(f"the storage `{key}` has two sizes")
                return _Made()
        raise StorageError("the file refers to something other than a storage")
