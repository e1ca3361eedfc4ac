"""Keep apart what differs from device to device: its memory, how the host reads it, and where logits lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from argosy.runtime_bindings.engine.arena import Arena
from argosy.runtime_bindings.engine.tvm_runtime import load_tvm
from argosy.support.errors import TargetError
from argosy.support.text import did_you_mean


class Logits(Protocol):
    """The logits of one forward pass, (rows, vocab) float32, which the next pass may overwrite."""

    def numpy(self) -> np.ndarray:
        """Return the logits in host memory, without a copy where the device shares it."""
        ...

    @property
    def tensor(self) -> Any:
        """The logits where they were computed, for a sampler that runs there."""
        ...


@dataclass(frozen=True, slots=True)
class HostLogits:
    """Logits that numpy computed or copied."""

    array: np.ndarray

    def numpy(self) -> np.ndarray:
        return self.array

    @property
    def tensor(self) -> np.ndarray:
        return self.array


@dataclass(frozen=True, slots=True)
class DeviceLogits:
    """Logits in the memory of `device`: a tensor of any shape whose last axis is the vocabulary."""

    device: Device
    tensor: Any

    def numpy(self) -> np.ndarray:
        array = self.device.read(self.tensor)
        return array.reshape(-1, array.shape[-1])


class Allocator(Protocol):
    """A source of tensors whose memory is reserved at once."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Return a tensor to be written to."""
        ...


@dataclass(frozen=True, slots=True)
class Device:
    """A device that runs libraries.

    `name` is what the manifest of an artefact calls it, `handle` what TVM calls it. `shares_memory` says whether numpy
    can look into its tensors.
    """

    name: str
    handle: Any
    shares_memory: bool

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Return a tensor of this device with anything in it."""
        return load_tvm().runtime.empty(shape, dtype, self.handle)

    def reserve(self, nbytes: int) -> Allocator:
        """Return an allocator for tensors of `nbytes` in all, padded as `arena.padded` says."""
        return Arena(nbytes) if self.shares_memory else self

    def place(self, tensor: Any) -> Any:
        """Return `tensor`, which lies in host memory, as a tensor of this device."""
        return tensor if self.shares_memory else tensor.copyto(self.handle)

    def read(self, tensor: Any) -> np.ndarray:
        """Return a tensor of this device as an array: a view where memory is shared, else a copy."""
        return np.from_dlpack(tensor) if self.shares_memory else np.asarray(tensor.numpy())


class TokenIds:
    """int32 numbers in the memory of a device, kept from one pass to the next. Write to `host`, then call `first`."""

    def __init__(self, device: Device, size: int) -> None:
        self._tensor = device.empty((size,), "int32")
        self._shared = device.shares_memory
        self.host: np.ndarray = device.read(self._tensor)

    def first(self, count: int) -> Any:
        """Return the first `count` numbers of `host` as a tensor of the device."""
        view = self._tensor._create_view((count,))
        if not self._shared:
            view.copyfrom(self.host[:count])
        return view


DEVICES: dict[str, Callable[[], Device]] = {
    "cpu": lambda: Device("cpu", load_tvm().cpu(), shares_memory=True),
}
"""The devices that this runtime drives, by the name that libraries are recorded with."""


def check_device(name: str) -> None:
    """Raise TargetError if this runtime does not drive the device `name`."""
    if name not in DEVICES:
        raise TargetError(f"this runtime does not drive the device `{name}`", did_you_mean(name, DEVICES))


def open_device(name: str) -> Device:
    """Return the device `name`. Raises TargetError if this runtime does not drive it."""
    check_device(name)
    return DEVICES[name]()
