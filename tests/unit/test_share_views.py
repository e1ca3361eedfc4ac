"""ShareViews as before and after, on hand-written planned memory; and the calls of a decode step."""

from collections import Counter
from pathlib import Path

import pytest
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from argosy.compiler.passes.share_views import ShareViews
from argosy.model_defs.families import FAMILIES
from tests.unit.tiny_models import build_library, save_model


@I.ir_module(check_well_formed=False)  # the virtual machine's operators have no types of their own
class Before:
    @R.function(pure=False)
    def main(x: R.Tensor((1, 4), "float32")) -> R.Tensor((4,), "float32"):
        R.func_attr({"relax.force_pure": True})
        storage = R.vm.alloc_storage(R.shape([16]), R.prim_value(0), R.dtype("uint8"))
        a = R.vm.alloc_tensor(storage, R.prim_value(0), R.shape([1, 4]), R.dtype("float32"))
        _ = R.call_packed("layer", x, a, ty_args=(R.Tuple,))
        b = R.call_packed("vm.builtin.reshape", a, R.shape([4]), ty_args=(R.Tensor((4,), "float32"),))
        c = R.vm.alloc_tensor(storage, R.prim_value(0), R.shape([1, 4]), R.dtype("float32"))
        _1 = R.call_packed("layer", b, c, ty_args=(R.Tuple,))
        d = R.call_packed("vm.builtin.reshape", c, R.shape([4]), ty_args=(R.Tensor((4,), "float32"),))
        e = R.vm.alloc_tensor(storage, R.prim_value(0), R.shape([4]), R.dtype("float32"))
        _2 = R.call_packed("layer", d, e, ty_args=(R.Tuple,))
        other = R.vm.alloc_storage(R.shape([16]), R.prim_value(0), R.dtype("uint8"))
        f = R.vm.alloc_tensor(other, R.prim_value(0), R.shape([4]), R.dtype("float32"))
        _3 = R.call_packed("layer", e, f, ty_args=(R.Tuple,))
        return f


@I.ir_module(check_well_formed=False)  # the virtual machine's operators have no types of their own
class Expected:
    @R.function(pure=False)
    def main(x: R.Tensor((1, 4), "float32")) -> R.Tensor((4,), "float32"):
        R.func_attr({"relax.force_pure": True})
        storage = R.vm.alloc_storage(R.shape([16]), R.prim_value(0), R.dtype("uint8"))
        a = R.vm.alloc_tensor(storage, R.prim_value(0), R.shape([1, 4]), R.dtype("float32"))
        _ = R.call_packed("layer", x, a, ty_args=(R.Tuple,))
        b = R.call_packed("vm.builtin.reshape", a, R.shape([4]), ty_args=(R.Tensor((4,), "float32"),))
        _1 = R.call_packed("layer", b, a, ty_args=(R.Tuple,))
        e = R.vm.alloc_tensor(storage, R.prim_value(0), R.shape([4]), R.dtype("float32"))
        _2 = R.call_packed("layer", b, e, ty_args=(R.Tuple,))
        other = R.vm.alloc_storage(R.shape([16]), R.prim_value(0), R.dtype("uint8"))
        f = R.vm.alloc_tensor(other, R.prim_value(0), R.shape([4]), R.dtype("float32"))
        _3 = R.call_packed("layer", e, f, ty_args=(R.Tuple,))
        return f


def test_share_views_names_each_place_of_memory_once() -> None:
    """The same storage in another shape, and another storage of the same shape, stay tensors of their own."""
    tvm.ir.assert_structural_equal(ShareViews()(Before), Expected)


def test_share_views_does_nothing_twice() -> None:
    tvm.ir.assert_structural_equal(ShareViews()(Expected), Expected)


def test_share_views_refuses_branches() -> None:
    x, flag = relax.Var("x", relax.TensorType((2,), "float32")), relax.Var("flag", relax.TensorType((), "bool"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x, flag]):
        builder.emit_func_output(builder.emit(relax.If(flag, x, x)))
    with pytest.raises(Exception, match="a branch"):
        ShareViews()(builder.finalize())


def test_decode_step_calls_little_but_kernels(tmp_path: Path) -> None:
    """The number of calls other than kernels and reads of parameters does not grow with the number of layers."""
    config = dict(FAMILIES["llama"].tiny_config)
    extra = []
    for layers in (1, 3):
        directory = tmp_path / str(layers)
        save_model({**config, "num_hidden_layers": layers}, directory)
        library = build_library(directory)
        library.add(0)
        library.prefill(0, [1, 2, 3])
        calls: Counter[str] = Counter()

        def count(_function: object, name: str, before: bool, *_: object, calls: Counter[str] = calls) -> int:
            calls[name] += before
            return 0

        library.machine.set_instrument(count)
        library.forward("decode", {0: [4]})
        library.machine.set_instrument(lambda *_: 0)
        assert calls["vm.builtin.tuple_getitem"] > layers
        own = [name for name in calls if not name.startswith("vm.builtin.") or "getitem" in name or "kv_cache" in name]
        extra.append(calls.total() - sum(calls[name] for name in own))
    assert extra[1] <= extra[0] + 6, extra
