"""The tiles of GPU kernels: chosen from traits, and never more than a device has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import tvm
import tvm_ffi
from tvm import s_tir, tirx

from argosy.compiler.kernels.gpu.attention.cache import gpu_kernels
from argosy.compiler.kernels.gpu.attention.size import TileSize, chunk_tile, decode_tile
from argosy.compiler.kernels.gpu.launch import workgroup_threads
from argosy.compiler.kernels.gpu.linear import GpuLinear, GpuLinearPlan
from argosy.compiler.kernels.gpu.linear.tiles import MatrixTile, RowTile, matrix_tile, row_tile
from argosy.compiler.kernels.gpu.sampling.logits import bitmask, logit_bias, penalties
from argosy.compiler.kernels.gpu.sampling.softmax import softmax_chunks, softmax_partials, softmax_probabilities
from argosy.compiler.kernels.gpu.sampling.sort import sort_chunk, sort_descending, sort_threads
from argosy.compiler.kernels.gpu.sampling.top_p import sample_top_p
from argosy.compiler.kernels.gpu.traits import GpuTraits
from argosy.compiler.kernels.kv.shape import AttentionShape
from argosy.compiler.kernels.linear import LinearKernel
from argosy.compiler.targets.webgpu.target import webgpu_traits
from argosy.quant.scheme import F32, INT4_F16, INT4_F32

WEBGPU = webgpu_traits(f16=False)
SMALL = replace(WEBGPU, threads=64, shared_bytes=16 << 10, grid=65535)
TINY = replace(WEBGPU, threads=32, shared_bytes=8 << 10, grid=65535)
LARGE = replace(WEBGPU, threads=1024, shared_bytes=48 << 10)
HUGE = replace(WEBGPU, threads=1024, shared_bytes=100 << 10)
TRAITS = {"webgpu": WEBGPU, "small": SMALL, "tiny": TINY, "large": LARGE, "huge": HUGE}
SHAPES = [
    AttentionShape(9, 3, 64, "float16"), AttentionShape(4, 4, 16, "float32", window=32),
    AttentionShape(32, 2, 128, "float16", softcap=50.0), AttentionShape(8, 1, 256, "float32", window=64),
    AttentionShape(8, 1, 512, "float32"),
]  # fmt: skip
VOCAB = 49152


def test_webgpu_has_the_tiles_it_was_measured_with() -> None:
    assert row_tile(WEBGPU) == RowTile(lanes=16, rows=4, groups=4)
    assert matrix_tile(WEBGPU) == MatrixTile(tokens=32, rows=64, depth=32, threads_x=16, threads_y=8)
    for shape in SHAPES[:4]:
        assert chunk_tile(WEBGPU, shape) == TileSize(rows=8, slices=1, lanes=64)
        assert decode_tile(WEBGPU, shape) == TileSize(rows=min(shape.group, 8), slices=4, lanes=64)
    assert workgroup_threads(WEBGPU) == sort_threads(WEBGPU) == 256
    assert sort_chunk(WEBGPU) == 1024
    assert softmax_chunks(WEBGPU, VOCAB) == VOCAB // 4096


def test_more_threads_and_memory_give_larger_tiles() -> None:
    sizes = [(tile.tokens, tile.rows, tile.depth) for tile in map(matrix_tile, (TINY, SMALL, WEBGPU, LARGE, HUGE))]
    assert sizes == [(16, 32, 16), (16, 32, 16), (32, 64, 32), (64, 64, 32), (64, 128, 32)]
    assert [sort_chunk(traits) for traits in (TINY, SMALL, WEBGPU, HUGE)] == [256, 512, 1024, 2048]
    assert [decode_tile(traits, SHAPES[3]).threads for traits in (TINY, SMALL, WEBGPU, HUGE)] == [32, 64, 256, 256]


def test_a_head_that_does_not_fit_gets_a_smaller_tile() -> None:
    wide = SHAPES[4]
    assert decode_tile(WEBGPU, wide) == TileSize(rows=8, slices=2, lanes=64)
    assert decode_tile(HUGE, wide) == TileSize(rows=8, slices=4, lanes=64)
    assert chunk_tile(TINY, wide).rows < chunk_tile(WEBGPU, wide).rows == 8


def test_limits_are_those_that_tvm_reads() -> None:
    assert WEBGPU.tvm_limits() == {"max_num_threads": 256, "max_shared_memory_per_block": 32 << 10}
    target = tvm.target.Target({"kind": "vulkan", **replace(LARGE, subgroup=32).tvm_limits()})
    assert (target.attrs["max_num_threads"], target.attrs["thread_warp_size"]) == (1024, 32)


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_no_kernel_exceeds_the_traits(traits: GpuTraits) -> None:
    count = 0
    for function in all_kernels(traits):
        for threads, shared_bytes in workgroups_of(function):
            assert 0 < threads <= traits.threads, function.attrs["global_symbol"]
            assert shared_bytes <= traits.shared_bytes, function.attrs["global_symbol"]
            count += 1
    assert count > 60


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_declared_shared_memory_is_what_the_tile_says(traits: GpuTraits) -> None:
    for shape in SHAPES:
        kernels = gpu_kernels(traits)
        (decode,) = workgroups_of(kernels.decode(shape, False))
        (chunk,) = workgroups_of(kernels.ragged(shape))
        for size, found in ((decode_tile(traits, shape), decode), (chunk_tile(traits, shape), chunk)):
            assert found == (size.threads, size.shared_bytes(shape.head_dim))
    few, many = workgroups_of(GpuLinear(traits, LinearKernel(1, 1, INT4_F32)).build())
    assert few == (row_tile(traits).threads, row_tile(traits).shared_bytes)
    assert many == (matrix_tile(traits).threads, matrix_tile(traits).shared_bytes)


@pytest.mark.parametrize("traits", TRAITS.values(), ids=TRAITS)
def test_the_threads_of_a_matrix_tile_divide_its_work(traits: GpuTraits) -> None:
    tile = matrix_tile(traits)
    assert tile.sums_x * tile.threads_x == tile.rows and tile.sums_y * tile.threads_y == tile.tokens
    assert tile.threads % tile.depth == 0 and tile.depth * tile.tokens % tile.threads == 0
    for per_unit in (1, INT4_F16.per_word):
        units = tile.depth // per_unit
        assert units * per_unit == tile.depth and units * tile.rows % tile.threads == 0


def all_kernels(traits: GpuTraits) -> Iterator[tirx.PrimFunc]:
    """Yield every kernel of the package, for several shapes."""
    cache = gpu_kernels(traits)
    for shape in SHAPES:
        for sliding in (False, True) if shape.window else (False,):
            yield cache.prefill(shape, sliding)
            yield cache.decode(shape, sliding)
        yield from (make(shape) for make in (cache.append, cache.ragged, cache.merge_state, cache.split_qkv))
        yield cache.copy_page(shape)
        yield cache.read_back(shape, 2)
    plan = GpuLinearPlan(traits, "float32", frozenset({"f32", "int4_f16", "int4_f32"}))
    for fmt in (F32, INT4_F16, INT4_F32):
        for out in ("float32", "float16"):
            builder = plan.builder(LinearKernel(64, 64, fmt, x="float16", out=out))
            assert builder is not None
            yield builder.build()
    for make in (softmax_partials, softmax_probabilities, sort_descending, sample_top_p):
        yield make(traits, VOCAB)
    yield from (make(traits, VOCAB) for make in (logit_bias, penalties, bitmask))


def workgroups_of(function: tirx.PrimFunc) -> list[tuple[int, int]]:
    """Return the threads and the bytes of shared memory of every launch in `function`, in order."""
    found: list[tuple[int, int]] = []

    def launch(loop: tirx.For) -> tirx.For:
        if loop.thread_binding is not None and loop.thread_binding.thread_tag == "threadIdx.x":
            found.append((int(loop.extent), shared_bytes(loop.body)))
        return loop

    tvm_ffi.structural_map(function.body, (tirx.For, launch))
    return found


def shared_bytes(body: tirx.Stmt) -> int:
    total = 0

    def allocated(block: s_tir.SBlock) -> s_tir.SBlock:
        nonlocal total
        for buffer in block.alloc_buffers:
            if buffer.scope() == "shared":
                elements = 1
                for extent in buffer.shape:
                    elements *= int(extent)
                total += elements * tvm.DataType(str(buffer.dtype)).itemsize
        return block

    tvm_ffi.structural_map(body, (s_tir.SBlock, allocated))
    return total
