"""ARGOSY_CHECK finds the phase that breaks a module; a debug dump names and times every pass."""

import json
from pathlib import Path

import pytest
import tvm
from tvm import relax, tirx
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from argosy.compiler.dump import Dump
from argosy.compiler.pipeline import Phase, run
from argosy.compiler.targets import target_named
from argosy.support.errors import CompileError


@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def double(x: T.Buffer((4,), "float32"), y: T.Buffer((4,), "float32")):
        for i in range(4):
            with T.sblock("double"):
                v = T.axis.spatial(4, i)
                y[v] = x[v] * T.float32(2)

    @R.function
    def main(x: R.Tensor((4,), "float32")) -> R.Tensor((4,), "float32"):
        with R.dataflow():
            y = R.add(x, x)
            R.output(y)
        return y


def _with_a_free_variable(mod: tvm.IRModule) -> tvm.IRModule:
    """`mod` with a relax function that returns a variable nobody defines."""
    main = mod["main"]
    stray = relax.Var("stray", main.params[0].ty)
    mod.update_func(mod.get_global_var("main"), relax.Function(main.params, relax.SeqExpr([], stray), main.ret_ty))
    return mod


def _with_a_free_index(mod: tvm.IRModule) -> tvm.IRModule:
    """`mod` with a PrimFunc that reads at an index nobody defines."""
    double = mod["double"]
    x, y = double.params
    body = tirx.BufferStore(y, x[tirx.Var("stray", "int32")], [0])
    mod.update_func(mod.get_global_var("double"), tirx.PrimFunc([x, y], body))
    return mod


def _phase(change) -> Phase:
    @tvm.transform.module_pass(opt_level=0, name="Change")
    def broken(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        return change(mod.clone())

    return Phase("breaking", (relax.transform.DeadCodeElimination(), broken))


@pytest.mark.parametrize("change", [_with_a_free_variable, _with_a_free_index])
def test_a_broken_module_is_caught_and_the_phase_named(change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_CHECK", "1")
    with pytest.raises(CompileError, match=r"phase `breaking` left a module that is not well formed: .*stray"):
        run(Module, _phase(change), target_named("cpu"))


def test_a_sound_module_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_CHECK", "1")
    tvm.ir.assert_structural_equal(run(Module, _phase(lambda mod: mod), target_named("cpu")), Module)


def test_without_the_switch_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARGOSY_CHECK", "0")
    run(Module, _phase(_with_a_free_variable), target_named("cpu"))


def test_a_dump_names_and_times_every_pass(tmp_path: Path) -> None:
    stale = tmp_path / "passes" / "07-old-Pass.py"
    stale.parent.mkdir()
    stale.write_text("")
    dump = Dump(tmp_path)
    phase = _phase(lambda mod: relax.transform.DeadCodeElimination()(mod))
    dump.module(phase.name, run(Module, phase, target_named("cpu"), dump.instruments(phase.name)))
    dump.timings({"breaking": 1.0})
    names = ["DeadCodeElimination", "Change"]  # and not what a pass runs inside
    files = sorted(path.name for path in (tmp_path / "passes").iterdir())
    assert files == [f"{i:02d}-breaking-{name}.py" for i, name in enumerate(names)]
    assert "def main" in (tmp_path / "passes" / files[0]).read_text()
    timings = json.loads((tmp_path / "timings.json").read_text())
    assert timings["breaking"]["seconds"] == 1.0 and list(timings["breaking"]["passes"]) == names
    assert (tmp_path / "00-breaking.py").exists()
