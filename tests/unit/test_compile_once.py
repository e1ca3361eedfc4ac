"""Equal recipes share an executable, and nothing else does."""

import dataclasses

import tvm
from compile_once import compile_once
from tiny_models import quick_target

from argosy.compiler.targets import target_named
from argosy.compiler.targets.record import TargetRecord


def compiled(recipe: str, target: TargetRecord) -> object:
    return compile_once(recipe, target, lambda: tvm.runtime.Executable(None))


def test_equal_recipes_share_an_executable() -> None:
    assert compiled("one", quick_target()) is compiled("one", quick_target())
    assert compiled("one", quick_target("int8")) is compiled("one", quick_target("int8"))


def test_what_differs_is_compiled_again() -> None:
    target = quick_target()
    others = [quick_target("int8"), quick_target(kv="f16"), target_named("cpu", "f32", "f32")]
    others.append(dataclasses.replace(target, schedule=()))
    made = [compiled("two", target), compiled("three", target), *(compiled("two", other) for other in others)]
    assert len(set(map(id, made))) == len(made)


def test_kernels_for_gpus_are_never_shared() -> None:
    target = target_named("webgpu", scheme="q4f16_1")
    assert compiled("one", target) is not compiled("one", target)
