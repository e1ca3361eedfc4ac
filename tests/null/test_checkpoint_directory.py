"""Read Hugging Face directories of safetensors, shards and PyTorch files, as the libraries themselves write them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save, save_file
from zoo.file_bytes import safetensors, tiny_directory, tiny_tensors

from argosy.model_defs.checkpoint import open_checkpoint
from argosy.model_defs.checkpoint.safetensors_file import SafetensorsFile
from argosy.support.errors import CheckpointError

DTYPES = ["float16", "float32", "float64", "bool"]
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def _directory(path: Path, without: str | None = None) -> Path:
    path.mkdir(exist_ok=True)
    for name, data in tiny_directory().files.items():
        if name != without:
            (path / name).write_bytes(data)
    return path


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
        ),
        max_size=4,
    )
)
def test_what_safetensors_writes_is_read(tmp_path_factory: pytest.TempPathFactory, tensors: dict) -> None:
    path = tmp_path_factory.mktemp("s") / "x.safetensors"
    path.write_bytes(save(tensors, metadata={"format": "pt"}))
    file = SafetensorsFile(path)
    assert set(file.names()) == set(tensors)
    for name, values in tensors.items():
        got = file.read(name)
        assert file.shape(name) == got.shape == values.shape
        assert got.dtype == (np.float32 if values.dtype == np.float64 else values.dtype)
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(got, values.astype(got.dtype))


def test_bfloat16_becomes_float32(tmp_path: Path) -> None:
    bits = np.array([[0x3F80, 0xC000, 0x7F80], [0x0001, 0x8000, 0x4049]], np.uint16)
    header = {"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
    path = _directory(tmp_path / "m")
    (path / "model.safetensors").write_bytes(safetensors(header, bits.tobytes()))
    checkpoint = open_checkpoint(path)
    assert checkpoint.stored_type("w") == "BF16"
    got = checkpoint.read("w")
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got.view(np.uint32) >> 16, bits)
    assert got[0, 0] == 1.0 and got[0, 1] == -2.0 and got[0, 2] == np.inf


def _shard(path: Path, files: dict[str, dict[str, np.ndarray]]) -> None:
    (path / "model.safetensors").unlink()
    for name, tensors in files.items():
        save_file(tensors, path / name)
    places = {tensor: name for name, tensors in files.items() for tensor in tensors}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


def test_shards(tmp_path: Path) -> None:
    path = _directory(tmp_path / "m")
    x, y = (tiny_tensors()[name] for name in ("x.weight", "y.weight"))
    _shard(
        path, {"model-00001-of-00002.safetensors": {"x.weight": x}, "model-00002-of-00002.safetensors": {"y.weight": y}}
    )
    checkpoint = open_checkpoint(path)
    assert checkpoint.format == "safetensors" and set(checkpoint.names()) == {"x.weight", "y.weight"}
    np.testing.assert_array_equal(checkpoint.read("x.weight"), x)
    np.testing.assert_array_equal(checkpoint.read("y.weight"), y)
    assert checkpoint.read_blocks("x.weight") is None


def test_linked_files_are_followed(tmp_path: Path) -> None:
    """The hub cache stores files elsewhere and links to them."""
    path = _directory(tmp_path / "m")
    (path / "model.safetensors").rename(tmp_path / "blob")
    (path / "model.safetensors").symlink_to("../blob")
    np.testing.assert_array_equal(open_checkpoint(path).read("x.weight"), tiny_tensors()["x.weight"])


def test_digest_knows_weights_and_tokenizer_but_not_the_path(tmp_path: Path) -> None:
    first = open_checkpoint(_directory(tmp_path / "a")).digest()
    other = _directory(tmp_path / "b")
    assert open_checkpoint(other).digest() == first
    (other / "config.json").write_bytes(b' {"vocab_size": 8, "model_type": "llama"}')
    assert open_checkpoint(other).digest() == first
    (other / "chat_template.jinja").write_text("x")
    second = open_checkpoint(other).digest()
    data = bytearray((other / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (other / "model.safetensors").write_bytes(data)
    assert len({first, second, open_checkpoint(other).digest()}) == 3


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    path = _directory(tmp_path / "m")
    checkpoint = open_checkpoint(path)
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="truncated"):
        checkpoint.read("y.weight")


class TestBin:
    """PyTorch files."""

    @pytest.fixture
    def torch(self) -> object:
        return pytest.importorskip("torch", reason="torch, which `.bin` files need, is not installed")

    @pytest.mark.parametrize("modern", [True, False], ids=["zip", "legacy"])
    def test_values(self, torch, modern: bool, tmp_path: Path) -> None:
        path = _directory(tmp_path / "m", without="model.safetensors")
        base = torch.randn(6, 4)
        tensors = {
            "f32": base,
            "f16": base.half(),
            "bf16": base.bfloat16(),
            "f64": base.double(),
            "transposed": base.t(),
            "slice": base[2:4],
            "mask": base > 0,
            "scalar": torch.tensor(2.0),
        }
        torch.save(tensors, path / "pytorch_model.bin", _use_new_zipfile_serialization=modern)
        checkpoint = open_checkpoint(path)
        assert checkpoint.format == "bin" and set(checkpoint.names()) == set(tensors)
        for name, tensor in tensors.items():
            got = checkpoint.read(name)
            assert checkpoint.shape(name) == got.shape == tuple(tensor.shape)
            expected = tensor if name in ("f16", "mask") else tensor.float()
            np.testing.assert_array_equal(got, expected.numpy())
        assert checkpoint.stored_type("bf16") == "BF16" and checkpoint.read("f16").dtype == np.float16
        first = checkpoint.digest()
        base[0, 0] += 1
        torch.save(tensors, path / "pytorch_model.bin", _use_new_zipfile_serialization=modern)
        assert open_checkpoint(path).digest() != first

    def test_shards(self, torch, tmp_path: Path) -> None:
        path = _directory(tmp_path / "m", without="model.safetensors")
        for i in (1, 2):
            torch.save({f"w{i}": torch.full((2,), float(i))}, path / f"pytorch_model-{i}.bin")
        places = {"w1": "pytorch_model-1.bin", "w2": "pytorch_model-2.bin"}
        (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
        np.testing.assert_array_equal(open_checkpoint(path).read("w2"), [2, 2])

    def test_safetensors_come_first(self, torch, tmp_path: Path) -> None:
        path = _directory(tmp_path / "m")
        torch.save({"other": torch.ones(1)}, path / "pytorch_model.bin")
        assert open_checkpoint(path).format == "safetensors"

    @pytest.mark.parametrize("version", ["2.9.1", "1.13.1+cu117", "2.6.0a0+git", "unknown"])
    def test_a_torch_that_could_be_made_to_run_code_is_refused(
        self, torch, tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = _directory(tmp_path / "m", without="model.safetensors")
        torch.save({"w": torch.ones(1)}, path / "pytorch_model.bin")
        monkeypatch.setattr(torch, "__version__", version)
        with pytest.raises(CheckpointError, match=f"torch `{re.escape(version)}` can be made to run code") as caught:
            open_checkpoint(path)
        assert "pip install --upgrade 'torch>=2.10'" in caught.value.hint
        for fine in ("2.10.0", "2.13.0+cpu", "3.0.0"):
            monkeypatch.setattr(torch, "__version__", fine)
            assert open_checkpoint(path).names() == ("w",)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from argosy.model_defs.checkpoint import open_checkpoint
from argosy.support.errors import ArgosyError
try:
    open_checkpoint(sys.argv[1])
except ArgosyError as error:
    print(error)
"""


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    path = _directory(tmp_path / "m", without="model.safetensors")
    (path / "pytorch_model.bin").write_bytes(b"PK\3\4")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(path)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "needs torch" in printed and "argosy[torch]" in printed


def test_importing_needs_neither_torch_nor_tvm() -> None:
    code = (
        "import sys, argosy.model_defs.checkpoint; print(sorted({'torch', 'transformers', 'tvm'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
