"""Convert a checkpoint's tensors to those of a compiled library, using each of them once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np

from argosy.quant.formats import Tensors, blocks_fit, empty, pack, pack_blocks
from argosy.quant.inputs import ParameterSource, StoredParameter, TensorSource
from argosy.quant.plan import StoragePlan
from argosy.quant.scheme import Format
from argosy.support.errors import CheckpointError
from argosy.support.layout import TensorInfo
from argosy.support.progress import Progress
from argosy.support.text import one_line

NAMES_SHOWN = 5
STAGE = "convert weights"

Sink = Callable[[str, np.ndarray], None]


def expected_tensors(parameters: Sequence[StoredParameter], plan: StoragePlan) -> list[TensorInfo]:
    """Return the tensors that `convert` emits, in its order."""
    return [
        (_tensor_name(p, suffix), shape, dtype)
        for p in parameters
        for suffix, (shape, dtype) in plan.format_of(p).tensors(p.shape).items()
    ]


def _tensor_name(parameter: StoredParameter, suffix: str) -> str:
    return parameter.name if parameter.kind == "plain" else f"{parameter.name}.{suffix}"


def check_sources(parameters: Sequence[StoredParameter], checkpoint: TensorSource, ignorable: Collection[str]) -> None:
    """Check that every source is in the checkpoint with its shape, and that only `ignorable` ones are left over.

    `ignorable` are the names of tensors that carry nothing, such as causal masks (`model_defs.read.Model`).
    Raises CheckpointError naming the tensors.
    """
    sources = [source for p in parameters for source in p.sources]
    twice = [name for name, count in Counter(s.name for s in sources).items() if count > 1]
    assert not twice, f"used twice: {twice}"
    present = set(checkpoint.names())
    missing = [f"`{s.name}`" for s in sources if s.name not in present]
    if missing:
        raise CheckpointError(
            f"the checkpoint lacks {_listed(missing)}", "its config requires them; check that all files are there"
        )
    wrong = [
        f"`{s.name}` {list(checkpoint.shape(s.name))} instead of {list(s.shape)}"
        for s in sources
        if tuple(checkpoint.shape(s.name)) != tuple(s.shape)
    ]
    if wrong:
        raise CheckpointError(
            f"tensors have other shapes than the config says: {_listed(wrong)}",
            "config and weights must come from the same model",
        )
    extra = sorted(present.difference((s.name for s in sources), ignorable))
    if extra:
        raise CheckpointError(
            f"the checkpoint holds tensors that this architecture has no use for: {_listed(_quoted(extra))}",
            "leaving them out would change the model; its architecture is probably not the one its config names",
        )


def _quoted(names: Sequence[str]) -> list[str]:
    """Quote names from a file, which may hold anything, on one line."""
    return [f"`{one_line(name, 100)}`" for name in names]


def _listed(items: Sequence[str]) -> str:
    shown = ", ".join(items[:NAMES_SHOWN])
    return shown if len(items) <= NAMES_SHOWN else f"{shown} and {len(items) - NAMES_SHOWN} more"


def convert(
    parameters: Sequence[StoredParameter],
    plan: StoragePlan,
    checkpoint: TensorSource,
    rounding: str,
    sink: Sink,
    progress: Progress,
    *,
    ignorable: Collection[str],
) -> None:
    """Pass every tensor of `expected_tensors(parameters, plan)`, in that order, to `sink` as a C-contiguous array.

    The checkpoint is checked first (`check_sources`). At any time at most one source tensor (two while it is adapted)
    and the tensors of one parameter are in memory. Blocks of a GGUF file that the chosen format stores without loss are
    kept as they are, whatever `rounding` is. Progress counts the bytes passed to the sink.

    Raises CheckpointError, or SchemeError for weights that cannot be stored in the chosen format.
    """
    check_sources(parameters, checkpoint, ignorable)
    total = sum(math.prod(shape) * np.dtype(dtype).itemsize for _, shape, dtype in expected_tensors(parameters, plan))
    done = 0
    progress.report(STAGE, done, total, "bytes")
    for parameter in parameters:
        for suffix, array in _stored(parameter, plan.format_of(parameter), checkpoint, rounding).items():
            sink(_tensor_name(parameter, suffix), array)
            done += array.nbytes
            progress.report(STAGE, done, total, "bytes")
        del array  # otherwise it would stay in memory while the next parameter is read


def _stored(parameter: StoredParameter, fmt: Format, checkpoint: TensorSource, rounding: str) -> Tensors:
    """Return the tensors of one parameter, filled source by source."""
    out = empty(fmt, parameter.shape)
    start = 0
    for source in parameter.sources:
        start += _fill(source, fmt, checkpoint, rounding, {suffix: tensor[start:] for suffix, tensor in out.items()})
    assert start == parameter.shape[0], (parameter.name, start)
    return out


def _fill(source: ParameterSource, fmt: Format, checkpoint: TensorSource, rounding: str, out: Tensors) -> int:
    """Store `source` in the first rows of `out`, and return the number of its rows."""
    if source.reorders_rows_only and blocks_fit(checkpoint.stored_type(source.name), fmt):
        blocks = checkpoint.read_blocks(source.name)
        assert blocks is not None, source.name
        _, packed = pack_blocks(blocks, fmt, name=source.name)
        for suffix, tensor in packed.items():
            rows = source.rows(tensor)
            out[suffix][: len(rows)] = rows
        return len(rows)
    values = source.rows(checkpoint.read(source.name))
    count = len(values)
    pack(fmt, values, rounding, name=source.name, out={suffix: tensor[:count] for suffix, tensor in out.items()})
    return count
