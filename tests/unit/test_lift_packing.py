"""LiftPacking as before and after: weights packed in every call become a recipe and functions of packed weights."""

import json

import tvm
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from argosy.compiler.passes.lift_packing import PACKING, LiftPacking


@I.ir_module
class Before:
    @T.prim_func(private=True, s_tir=True)
    def pack(
        words: T.Buffer((4,), "uint32"),
        scales: T.Buffer((4,), "float16"),
        tiles: T.Buffer((4,), "float32"),
        halves: T.Buffer((4,), "float32"),
    ):
        T.func_attr({"argosy.pack": "int4_f16"})
        for i in range(4):
            with T.sblock("both"):
                v = T.axis.spatial(4, i)
                tiles[v] = T.Cast("float32", words[v]) * T.Cast("float32", scales[v])
                halves[v] = T.Cast("float32", scales[v]) * T.float32(0.5)

    @R.function
    def prefill(
        x: R.Tensor((4,), "float32"),
        params: R.Tuple(
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "uint32"),
            R.Tensor((4,), "float16"),
            R.Tensor((4,), "uint32"),
            R.Tensor((4,), "float16"),
        ),
    ) -> R.Tensor((4,), "float32"):
        R.func_attr({"num_input": 1})
        cls = Before
        with R.dataflow():
            bias = params[0]
            words = params[1]
            scales = params[2]
            more_words = params[3]
            more_scales = params[4]
            tiles = R.call_tir(cls.pack, (words, scales), out_ty=[R.Tensor((4,), "float32"), R.Tensor((4,), "float32")])
            first = tiles[0]
            more_tiles = R.call_tir(
                cls.pack, (more_words, more_scales), out_ty=[R.Tensor((4,), "float32"), R.Tensor((4,), "float32")]
            )
            second = more_tiles[1]
            y = R.multiply(x, first)
            z = R.multiply(y, second)
            out = R.add(z, bias)
            R.output(out)
        return out

    @R.function
    def embed(
        x: R.Tensor((4,), "float32"),
        params: R.Tuple(
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "uint32"),
            R.Tensor((4,), "float16"),
            R.Tensor((4,), "uint32"),
            R.Tensor((4,), "float16"),
        ),
    ) -> R.Tensor((4,), "float32"):
        R.func_attr({"num_input": 1})
        cls = Before
        with R.dataflow():
            words = params[1]
            scales = params[2]
            tiles = R.call_tir(cls.pack, (words, scales), out_ty=[R.Tensor((4,), "float32"), R.Tensor((4,), "float32")])
            first = tiles[0]
            widened = R.astype(scales, "float32")  # reads the stored scales as well, so they are kept
            y = R.multiply(x, first)
            out = R.multiply(y, widened)
            R.output(out)
        return out


@I.ir_module
class Expected:
    @T.prim_func(s_tir=True)
    def pack(
        words: T.Buffer((4,), "uint32"),
        scales: T.Buffer((4,), "float16"),
        tiles: T.Buffer((4,), "float32"),
        halves: T.Buffer((4,), "float32"),
    ):
        T.func_attr({"argosy.pack": "int4_f16"})
        for i in range(4):
            with T.sblock("both"):
                v = T.axis.spatial(4, i)
                tiles[v] = T.Cast("float32", words[v]) * T.Cast("float32", scales[v])
                halves[v] = T.Cast("float32", scales[v]) * T.float32(0.5)

    @R.function
    def prefill(
        x: R.Tensor((4,), "float32"),
        packed_params: R.Tuple(
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float16"),
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float32"),
        ),
    ) -> R.Tensor((4,), "float32"):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            bias = packed_params[0]
            _ = packed_params[3]
            first = packed_params[1]
            second = packed_params[5]
            y = R.multiply(x, first)
            z = R.multiply(y, second)
            out = R.add(z, bias)
            R.output(out)
        return out

    @R.function
    def embed(
        x: R.Tensor((4,), "float32"),
        packed_params: R.Tuple(
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float16"),
            R.Tensor((4,), "float32"),
            R.Tensor((4,), "float32"),
        ),
    ) -> R.Tensor((4,), "float32"):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            scales = packed_params[3]
            first = packed_params[1]
            widened = R.astype(scales, "float32")
            y = R.multiply(x, first)
            out = R.multiply(y, widened)
            R.output(out)
        return out


def test_packing_leaves_the_functions_and_becomes_a_recipe() -> None:
    after = LiftPacking()(Before)
    recipe = json.loads(after[PACKING].body.body.value)
    tensor = {"shape": [4], "dtype": "float32"}
    assert recipe == {
        "kept": [[0, 0], [2, 3]],
        "steps": [
            {"function": "pack", "inputs": [1, 2], "outputs": [{"index": 1, **tensor}, {"index": 2, **tensor}]},
            {"function": "pack", "inputs": [3, 4], "outputs": [{"index": 4, **tensor}, {"index": 5, **tensor}]},
        ],
    }
    functions = {name: function for name, function in after.functions_items() if name.name_hint != PACKING}
    tvm.ir.assert_structural_equal(tvm.IRModule(functions), Expected)


def test_a_module_in_which_nothing_is_packed_stays() -> None:
    tvm.ir.assert_structural_equal(LiftPacking()(Expected), Expected)
