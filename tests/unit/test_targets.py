"""The targets: their records, what LLVM makes of each processor, linking, and artefacts with several libraries."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tvm
from tvm.target import codegen

from argosy.build import BuildRequest, build
from argosy.compiler.kernels.cpu.linear.instruction import INSTRUCTIONS, best_instruction
from argosy.compiler.metadata import stored_parameters
from argosy.compiler.targets import TARGETS, check_targets, check_tensors, target_named, with_companions
from argosy.compiler.targets.cpu import link
from argosy.compiler.targets.cpu.link import find_linker
from argosy.compiler.targets.cpu.processors import PROCESSORS
from argosy.compiler.targets.table import BROWSER_TARGET
from argosy.compiler.targets.webgpu.schemes import DTYPES
from argosy.dist import cpu_features
from argosy.dist.artefact import open_artefact
from argosy.dist.cpu_features import CHECKED, architecture, operating_system
from argosy.dist.triples import parse_triple
from argosy.support.errors import ArtefactError, TargetError, UsageError
from argosy.support.progress import SilentProgress

sys.path.insert(0, str(Path(__file__).parent))

from tiny_checkpoint import save_checkpoint

OTHER = "x86_64" if architecture() == "aarch64" else "aarch64"
KERNELS = {
    "x86_64-v3": "avx2",
    "x86_64-v4": "avx512vnni",
    "arm64": "dotprod",
    "arm64-i8mm": "i8mm",
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_llvm_uses_what_the_table_says_and_no_more(name: str) -> None:
    target = target_named(name).tvm_target
    features = {str(feature) for feature in codegen.llvm_get_cpu_features(target)}
    assert features & CHECKED == PROCESSORS[name].features


@pytest.mark.parametrize("name", ["cpu", *PROCESSORS])
def test_a_record_describes_its_target(name: str) -> None:
    record = target_named(name, "int8", "f16")
    assert record.name == name and record.device == "cpu" and record.kv_dtype == "float16"
    host = parse_triple(record.triple)
    assert host.arch == (PROCESSORS[name].arch if name in PROCESSORS else architecture())
    assert host.system == (operating_system() if host.arch == architecture() else "linux")
    assert record.library_suffix == host.library_suffix
    assert record.linear.instruction is not None and record.linear.instruction.features <= set(record.features)
    assert target_named(name, "f32").linear.instruction is None
    if name in KERNELS:
        assert record.linear.instruction.name == KERNELS[name]


@pytest.mark.parametrize("scheme", ["q0f32", "q0f16", "q4f32_1", "q4f16_1"])
def test_a_browser_computes_in_what_the_scheme_says(scheme: str) -> None:
    record = target_named("webgpu", scheme=scheme)
    dtype = "float16" if "f16" in scheme else "float32"
    assert record.name == record.device == "webgpu" and record.triple.startswith("wasm32")
    assert record.activation_dtype == record.kv_dtype == record.linear.dtype == dtype
    assert record.features == (("shader-f16",) if dtype == "float16" else ())


@pytest.mark.parametrize("scheme", ["q0f16", "q4f16_1"])
def test_a_browser_without_16_bit_floats_gets_a_library_for_the_same_weights(scheme: str) -> None:
    assert with_companions(["cpu", "webgpu"], scheme) == ("cpu", "webgpu", "webgpu-f32")
    record = target_named("webgpu-f32", scheme=scheme)
    assert record.widens and record.features == () and record.activation_dtype == record.kv_dtype == "float32"
    (stored,) = stored_parameters([("w", (2,), "float32")], record)
    assert stored == ("w", (2,), "float16") and stored_parameters([("c", (2,), "uint32")], record)[0][2] == "uint32"


@pytest.mark.parametrize("scheme", ["q0f32", "q4f32_1"])
def test_32_bit_floats_need_no_second_library(scheme: str) -> None:
    assert with_companions(["webgpu"], scheme) == ("webgpu",)
    assert not target_named("webgpu-f32", scheme=scheme).widens
    assert with_companions(["webgpu-f32", "webgpu"], "q4f16_1") == ("webgpu-f32", "webgpu")


def test_the_command_that_is_advised_for_browsers_can_be_built() -> None:
    assert set(BROWSER_TARGET.schemes or ()) == set(DTYPES)


def test_a_scheme_without_kernels_is_refused() -> None:
    with pytest.raises(TargetError, match="the target `webgpu` has no kernels for the scheme `q8f16_1`"):
        target_named("webgpu", scheme="q8f16_1")
    assert set(TARGETS) == {"cpu", "webgpu", "webgpu-f32", *PROCESSORS}


def test_a_cpu_with_nothing_gets_the_portable_instruction() -> None:
    assert best_instruction(frozenset()).name == best_instruction(frozenset({"sse2", "avx"})).name == "portable"


def test_the_runtime_ranks_libraries_as_the_compiler_ranks_instructions() -> None:
    for arch in ({"avx512vnni", "avxvnni", "avx2", "portable"}, {"i8mm", "dotprod", "portable"}):
        ranked = [instruction for instruction in INSTRUCTIONS if instruction.name in arch]
        strengths = [cpu_features.strength(instruction.features) for instruction in ranked]
        assert len(ranked) == len(arch) and strengths == sorted(strengths, reverse=True)


def test_names_are_checked() -> None:
    assert check_targets(["arm64", "cpu", "arm64"]) == ("arm64", "cpu")
    with pytest.raises(TargetError, match="unknown target `x86_64-v5`") as refusal:
        check_targets(["cpu", "x86_64-v5"])
    assert "`x86_64-v4`" in (refusal.value.hint or "")
    with pytest.raises(UsageError, match="no target"):
        check_targets([])


# -- linking for another architecture


def test_a_cross_compiler_comes_before_zig_and_neither_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {f"{OTHER}-linux-gnu-gcc": "/usr/bin/cross-gcc"}
    monkeypatch.setattr(link.shutil, "which", found.get)
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: name)
    assert find_linker(OTHER) == ["/usr/bin/cross-gcc"]
    found.clear()
    assert find_linker(OTHER) == [sys.executable, "-m", "ziglang", "cc", "-target", f"{OTHER}-linux-gnu"]
    monkeypatch.setattr(link.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match=f"links for `{OTHER}`") as refusal:
        find_linker(OTHER)
    assert "ziglang" in (refusal.value.hint or "") and "apt-get install gcc-" in (refusal.value.hint or "")


CROSS = {
    "gcc": shutil.which(f"{OTHER}-linux-gnu-gcc") is not None,
    "zig": importlib.util.find_spec("ziglang") is not None,
}


@pytest.mark.parametrize("linker", CROSS)
def test_a_library_for_another_architecture_is_linked(
    linker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not CROSS[linker]:
        pytest.skip(f"no {linker} that links for {OTHER}")
    if linker == "zig":
        monkeypatch.setattr(link.shutil, "which", lambda name: None)
    name = next(name for name, processor in PROCESSORS.items() if processor.arch == OTHER)
    record = target_named(name)
    a = tvm.te.placeholder((32,), "float32", "a")
    function = tvm.te.create_prim_func([a, tvm.te.compute((32,), lambda i: tvm.te.exp(a[i]), name="b")])
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    record.package(tvm.compile(module, target=record.tvm_target), tmp_path / "made.so")
    header = (tmp_path / "made.so").read_bytes()[:20]
    machine = int.from_bytes(header[18:20], "little")
    assert header[:4] == b"\x7fELF" and machine == {"aarch64": 183, "x86_64": 62}[OTHER]


# -- several targets in one artefact

X86 = pytest.mark.skipif(architecture() != "x86_64", reason=f"this machine is {architecture()}")


def argosy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "argosy.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a tiny model for AVX2 and for AVX-512 with the command."""
    root = tmp_path_factory.mktemp("targets")
    save_checkpoint(root / "tiny")
    made = argosy("build", "-m", str(root / "tiny"), "-t", "x86_64-v3,x86_64-v4", "-o", str(root / "made"))
    assert made.returncode == 0, made.stderr
    for name in ("x86_64-v3", "x86_64-v4"):
        assert f"compile for {name}" in made.stderr and f"library {name}" in made.stdout + made.stderr
    return root / "made"


def on_a_cpu_with(features: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features, "host_features", lambda: features)


@X86
def test_one_artefact_holds_a_library_for_each_target(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = open_artefact(both)
    assert artefact.manifest is not None and set(artefact.manifest.libraries) == {"x86_64-v3", "x86_64-v4"}
    assert len(list(both.glob("*.so"))) == 2 and len(list(both.glob("params_shard_*.bin"))) == 1
    on_a_cpu_with(PROCESSORS["x86_64-v4"].features | {"aes"}, monkeypatch)
    assert artefact.library().target.name == "x86_64-v4"
    on_a_cpu_with(PROCESSORS["x86_64-v3"].features, monkeypatch)
    assert artefact.library().target.name == "x86_64-v3"
    with pytest.raises(ArtefactError, match=r"needs the CPU features `avx512bw, .*avx512vnni") as refusal:
        artefact.library("x86_64-v4")
    assert "--target cpu " in (refusal.value.hint or "")
    on_a_cpu_with(frozenset({"sse2"}), monkeypatch)
    with pytest.raises(ArtefactError, match=r"x86_64-v3\.so` needs the CPU features `avx, avx2"):
        artefact.library()


@X86
def test_the_runtime_says_which_library_computes(both: Path) -> None:
    expected = open_artefact(both).library().target.name
    said = argosy("chat", str(both), "-p", "Hello", "--max-tokens", "2", "--temperature", "0", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["stats"]["target"] == expected


@X86
def test_doctor_says_which_library_would_be_loaded(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = open_artefact(both).library().target.name
    monkeypatch.setenv("ARGOSY_DIST", str(both.parent))
    rows = json.loads(argosy("doctor", "--json").stdout)["checks"]
    (row,) = (row for row in rows if row["name"] == "artefact")
    assert row["detail"] == f"made runs its library for {expected} (of x86_64-v3, x86_64-v4)"
    (cpu,) = (row for row in rows if row["name"] == "cpu")
    assert (
        f"runs libraries for cpu, {'x86_64-v3' if expected == 'x86_64-v3' else 'x86_64-v3, x86_64-v4'}" in cpu["detail"]
    )


@X86
def test_a_second_build_compiles_only_what_is_missing(both: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(both, made)
    again = build(BuildRequest(str(both.parent / "tiny"), ("x86_64-v3", "cpu"), output=made), SilentProgress())
    assert [(stage.stage, stage.target, stage.skipped) for stage in again.stages] == [
        ("weights", None, True), ("config", None, True), ("library", "x86_64-v3", True), ("library", "cpu", False),
    ]  # fmt: skip
    assert again.complete and again.targets == ("x86_64-v3", "cpu")


def test_a_tensor_that_some_browsers_cannot_read_is_told_of() -> None:
    (note,) = check_tensors(["cpu", "webgpu"], {"embed": 129 << 20, "norm": 1024})
    assert "`embed`" in note and "135.3 MB" in note and "134.2 MB" in note
    assert check_tensors(["cpu", "webgpu"], {"embed": 128 << 20}) == []
    assert check_tensors(["cpu"], {"embed": 4 << 30}) == []


def test_a_tensor_that_no_browser_can_read_is_refused() -> None:
    with pytest.raises(TargetError, match=r"`embed` has 1\.2 GB") as failure:
        check_tensors(["webgpu"], {"embed": (1 << 30) + (1 << 27)})
    assert "4-bit" in str(failure.value.hint)
