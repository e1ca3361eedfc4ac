"""TVM reads what we write, we read what TVM writes, and tensors are shared without a copy."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm.contrib import tvmjs
from tvm.target import codegen

from argosy.dist.cpu_features import CHECKED, host_features
from argosy.dist.tensor_cache import TensorCacheWriter, read_tensor_cache
from argosy.dist.tvm_bridge import packed_params, to_tvm
from argosy.support.errors import ArtefactError

ARRAYS = {
    "model.embed_tokens.q_weight": np.arange(640, dtype=np.uint32).reshape(40, 16),
    "model.embed_tokens.q_scale": np.linspace(-1, 1, 77, dtype=np.float16).reshape(7, 11),
    "model.norm.weight": np.linspace(0, 1, 33, dtype=np.float32),
    "bytes": np.arange(-5, 6, dtype=np.int8),
}
PARAMS = [(name, array.shape, str(array.dtype)) for name, array in ARRAYS.items()]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    with TensorCacheWriter(tmp_path, shard_bytes=2700) as writer:
        for name, array in ARRAYS.items():
            writer.add(name, array)
        assert len(writer.finish()) == 3
    return tmp_path


def test_tvm_loads_what_we_write(written: Path) -> None:
    load, get, clear = (tvm.get_global_func(f"vm.builtin.tensor_cache.{name}") for name in ("load", "get", "clear"))
    load(str(written), tvm.cpu().dlpack_device_type(), 0)
    try:
        for name, array in ARRAYS.items():
            assert np.array_equal(get(name).numpy(), array)
    finally:
        clear()
    loaded, metadata = tvmjs.load_tensor_cache(str(written), tvm.cpu())
    assert metadata["ParamSize"] == len(ARRAYS)
    for name, array in ARRAYS.items():
        assert np.array_equal(loaded[name].numpy(), array)


@pytest.mark.parametrize("encoding", ["raw", "f32-to-bf16"])
def test_we_load_what_tvm_writes(tmp_path: Path, encoding: str) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        tvmjs.dump_tensor_cache(ARRAYS, str(tmp_path), encode_format=encoding)
    loaded = read_tensor_cache(tmp_path).load()
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype and loaded[name].shape == array.shape
        exact = encoding == "raw" or array.dtype != np.float32
        assert np.allclose(loaded[name], array, rtol=0 if exact else 2**-8, atol=0)
    tensors = packed_params(loaded, PARAMS)  # unaligned ones are copied
    for tensor, array in zip(tensors, loaded.values(), strict=True):
        assert np.array_equal(tensor.numpy(), array)


def test_tensors_share_the_memory_map(written: Path) -> None:
    loaded = read_tensor_cache(written).load()
    tensors = packed_params(loaded, PARAMS)
    loaded["model.norm.weight"][0] = 42.0
    assert tensors[2].numpy()[0] == 42.0
    del loaded
    assert np.array_equal(tensors[0].numpy(), ARRAYS["model.embed_tokens.q_weight"])  # tensors keep the map alive


def test_arrays_that_cannot_be_shared_are_copied() -> None:
    array = np.arange(32, dtype=np.float32)
    array.flags.writeable = False
    assert np.array_equal(to_tvm(array).numpy(), array)
    turned = np.arange(12, dtype=np.float32).reshape(3, 4).T
    assert np.array_equal(to_tvm(turned).numpy(), turned)


@pytest.mark.parametrize(
    ("param", "sentence"),
    [
        (("gone", (1,), "float32"), "the weights lack the tensor `gone`"),
        (("bytes", (11,), "uint8"), r"`bytes` is int8 \[11\] in the weights, and the library wants uint8 \[11\]"),
        (("bytes", (1, 11), "int8"), r"is int8 \[11\] in the weights, and the library wants int8 \[1, 11\]"),
    ],
)
def test_tensors_that_a_library_does_not_want(param: tuple[str, tuple[int, ...], str], sentence: str) -> None:
    with pytest.raises(ArtefactError, match=sentence) as caught:
        packed_params(ARRAYS, [param], "argosy build")
    assert caught.value.hint == "argosy build"


def test_llvm_knows_every_name_that_is_checked() -> None:
    """A misspelt name would never be missing on any machine, so LLVM must know all of them."""
    known: set[str] = set()
    for triple, cpu in (("x86_64-linux-gnu", "diamondrapids"), ("x86_64-linux-gnu", "znver5"),
                        ("x86_64-linux-gnu", "sierraforest"), ("x86_64-linux-gnu", "tigerlake"),
                        ("aarch64-linux-gnu", "neoverse-v2"), ("aarch64-linux-gnu", "apple-m4")):  # fmt: skip
        target = tvm.target.Target({"kind": "llvm", "mtriple": triple, "mcpu": cpu})
        known |= {str(feature) for feature in codegen.llvm_get_cpu_features(target)}
    assert known >= CHECKED, CHECKED - known


def test_this_machine_has_what_llvm_always_assumes() -> None:
    present = host_features()
    if present is None:
        pytest.skip("this system does not list its CPU features")
    baseline = {"x86_64": {"sse", "sse2"}, "aarch64": {"neon"}}
    triple = str(codegen.llvm_get_system_triple()).split("-")[0]
    assert present >= baseline.get(triple, set())
