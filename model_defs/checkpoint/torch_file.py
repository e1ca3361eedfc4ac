"""Read tensors from a PyTorch `.bin` file without executing anything in it (`weights_only`)."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from argosy.model_defs.checkpoint.base import PIECE, sample_ranges
from argosy.model_defs.checkpoint.storage import open_file
from argosy.model_defs.checkpoint.torch_pickle import (
    PICKLE_LIMIT,
    PickleTooLargeError,
    check_archive_storages,
    check_old_pickles,
    check_old_storages,
)
from argosy.support.bounded_file import path_line
from argosy.support.errors import CheckpointError, UnsupportedModelError
from argosy.support.text import one_line

if TYPE_CHECKING:
    import torch

AGAIN = "download or copy the file again, or use a safetensors checkpoint"
OLDEST = (2, 10)  # in older ones, two faults let a file run code despite `weights_only`
TYPES = {
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float64": "F64",
    "torch.bool": "BOOL",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.int16": "I16",
    "torch.int32": "I32",
    "torch.int64": "I64",
}


class TorchFile:
    """A dict of tensors written by `torch.save`.

    Files older than PyTorch 1.6 are not zip archives and cannot be mapped: they are loaded into memory whole.
    """

    stored = "bin"

    def __init__(self, path: Path) -> None:
        with open_file(path) as file:
            archive = file.size >= 4 and file.read(0, 4) == b"PK\3\4"
        self.tensors = _load(path, archive)

    def names(self) -> tuple[str, ...]:
        """Return the names of all tensors."""
        return tuple(self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of `name`."""
        return tuple(self.tensors[name].shape)

    def stored_type(self, name: str) -> str:
        """Return the dtype of `name` as safetensors spells it."""
        return TYPES[str(self.tensors[name].dtype)]

    def read(self, name: str) -> np.ndarray:
        """Read the values of `name`; bfloat16 and float64 become float32."""
        tensor = self.tensors[name]
        if self.stored_type(name) in ("BF16", "F64"):
            tensor = tensor.float()
        return np.array(tensor.numpy(), order="C")  # a copy: it must not keep the mapping alive

    def sample(self, name: str, size: int) -> bytes:
        """Read raw bytes from the beginning, the middle and the end of `name`."""
        return b"".join(self._raw(name, at, n) for at, n in sample_ranges(self.tensors[name].nbytes, size))

    def pieces(self, name: str) -> Iterator[bytes]:
        """Yield the raw bytes of `name`, `PIECE` at a time."""
        for at in range(0, self.tensors[name].nbytes, PIECE):
            yield self._raw(name, at, PIECE)

    def _raw(self, name: str, at: int, size: int) -> bytes:
        """Read at most `size` raw bytes of `name` from `at` on, in whole values."""
        import torch

        flat = self.tensors[name].reshape(-1)
        width = flat.element_size()
        return flat[at // width : (at + size) // width].clone().view(torch.uint8).numpy().tobytes()


def _load(path: Path, archive: bool) -> dict[str, torch.Tensor]:
    """Load and check the tensors of the file."""
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"`{path_line(path)}` is a PyTorch file, and reading it needs torch", "pip install 'argosy[torch]'"
        ) from None
    if _release(torch.__version__) < OLDEST:
        raise CheckpointError(
            f"`{path_line(path)}` is a PyTorch file, and torch `{one_line(torch.__version__)}` can be made to run code "
            "that a file brings",
            f"pip install --upgrade 'torch>={OLDEST[0]}.{OLDEST[1]}', or use a safetensors checkpoint",
        )
    try:
        if archive:
            _check_archive(path)
        else:
            check_old_pickles(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats; the content is checked below
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except CheckpointError:
        raise
    except PickleTooLargeError:
        raise CheckpointError(f"`{path_line(path)}` describes more than any model has", AGAIN) from None
    except pickle.UnpicklingError:  # whose text suggests loading the file unsafely
        what = f"`{path_line(path)}` holds more than tensors, or is damaged"
        raise CheckpointError(what, "nothing in it was executed; use a safetensors checkpoint") from None
    except Exception as error:  # torch raises anything on a damaged file
        reason = one_line(str(error).split("\n")[0], 120).rstrip(".") or type(error).__name__
        raise CheckpointError(f"`{path_line(path)}` is not a PyTorch weights file: {reason}", AGAIN) from None
    tensors = _checked(loaded, path)
    if not tensors:
        raise CheckpointError(f"`{path_line(path)}` holds no tensor", AGAIN)
    try:
        (check_archive_storages if archive else check_old_storages)(path)
    except Exception as error:  # pickle raises anything on a damaged file
        what = f"`{path_line(path)}` does not hold all of its tensors: {one_line(error, 120)}"
        raise CheckpointError(what, AGAIN) from None
    return tensors


def _release(version: str) -> tuple[int, int]:
    """Return the major and minor number of a version such as "2.13.0+cpu"."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _check_archive(path: Path) -> None:
    """Check that all members are uncompressed and inside the file: a mapping reads them in place."""
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.header_offset + member.file_size > size:
                raise CheckpointError(
                    f"`{path_line(path)}` is a damaged archive at `{one_line(member.filename)}`", AGAIN
                )
            if member.filename.endswith(".pkl") and member.file_size > PICKLE_LIMIT:
                raise PickleTooLargeError


def _checked(loaded: object, path: Path) -> dict[str, torch.Tensor]:
    """Check that `loaded` is a dict of dense tensors of known types."""
    import torch

    if not isinstance(loaded, dict):
        raise CheckpointError(f"`{path_line(path)}` holds a {type(loaded).__name__}, not a dict of tensors", AGAIN)
    for name, tensor in loaded.items():
        label = f"entry `{one_line(name)}` of `{path_line(path)}`"
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{label} is a {type(tensor).__name__}, not a named tensor", AGAIN)
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
        if not dense or str(tensor.dtype) not in TYPES:
            raise UnsupportedModelError(
                f"{label} is stored as `{tensor.dtype}`, `{tensor.layout}`", "use a BF16, F16 or F32 checkpoint"
            )
        spread = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        if tensor.numel() > max(spread, 1):
            raise CheckpointError(f"{label} repeats its memory instead of holding values", AGAIN)
    return {name: tensor.detach() for name, tensor in loaded.items()}
