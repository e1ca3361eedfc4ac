"""Convert checked arrays to TVM tensors; the only module of this package that imports TVM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from argosy.dist.tensor_cache import MappedTensors
from argosy.support.errors import ArtefactError
from argosy.support.layout import TensorInfo

if TYPE_CHECKING:
    import tvm

_ALIGNMENT = 64


def to_tvm(array: np.ndarray) -> tvm.runtime.Tensor:
    """Make a CPU tensor that shares the memory of `array` if it is aligned and writable, else a copy."""
    import tvm

    if array.ctypes.data % _ALIGNMENT == 0 and array.flags.c_contiguous and array.flags.writeable:
        return tvm.runtime.from_dlpack(array)
    return tvm.runtime.tensor(np.ascontiguousarray(array))


class StoredParams(Sequence["tvm.runtime.Tensor"]):
    """The tensors of a library's `_metadata()["params"]`, in that order, converted when looked up."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], params: Iterable[TensorInfo],
        hint: str | None = None,
    ) -> None:  # fmt: skip
        """Raise ArtefactError if a tensor is missing or has another shape or dtype."""
        self._arrays = arrays
        self._names: list[str] = []
        for name, shape, dtype in params:
            if name not in arrays:
                raise ArtefactError(f"the weights lack the tensor `{name}` that the library wants", hint)
            array = arrays[name]
            if array.shape != shape or str(array.dtype) != dtype:
                held, wanted = f"{array.dtype} {list(array.shape)}", f"{dtype} {list(shape)}"
                sentence = f"the tensor `{name}` is {held} in the weights, and the library wants {wanted}"
                raise ArtefactError(sentence, hint)
            self._names.append(name)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: Any) -> Any:
        return to_tvm(self._arrays[self._names[index]])

    def release(self, index: int) -> None:
        """Release the memory of a mapped tensor that is no longer needed."""
        if isinstance(self._arrays, MappedTensors):
            self._arrays.release(self._names[index])


def packed_params(
    arrays: Mapping[str, np.ndarray], params: Iterable[TensorInfo], hint: str | None = None
) -> list[tvm.runtime.Tensor]:
    """Convert all of `StoredParams` at once."""
    return list(StoredParams(arrays, params, hint))
