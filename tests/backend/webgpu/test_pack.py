"""Libraries for browsers: linking, imports and exports, errors in JavaScript, and the cache of the compiled runtime."""

import json
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tvm
from tvm import relax
from wasm_module import read_module
from web.machine import program

from argosy.compiler.targets.webgpu.pack import cache, toolchain
from argosy.compiler.targets.webgpu.pack.cache import is_whole, pack_key, runtime_pack
from argosy.compiler.targets.webgpu.pack.programs import Programs
from argosy.compiler.targets.webgpu.pack.toolchain import EXPORTS, Execute, Job, Zig, find_toolchain
from argosy.compiler.targets.webgpu.package import package
from argosy.support.errors import CompileError, TargetError

NPM = Path(__file__).parents[3] / "runtime_bindings/web"
HOST = {"kind": "llvm", "mtriple": "wasm32-unknown-unknown-wasm"}
# Everything that `createPolyfillWASI` and `Environment` of @mlc-ai/web-runtime provide.
PROVIDED = {
    *(f"env.{name}" for name in ("TVMFFIWasmSafeCall", "TVMFFIWasmFunctionDeleter", "emscripten_notify_memory_growth")),
    *(
        f"wasi_snapshot_preview1.{name}"
        for name in (
            "clock_time_get",
            "environ_get",
            "environ_sizes_get",
            "fd_close",
            "fd_read",
            "fd_seek",
            "fd_write",
            "proc_exit",
        )
    ),
}


class Stages:
    """A Progress that records its reports."""

    def __init__(self) -> None:
        self.reports: list[tuple[str, int, int]] = []

    def report(self, stage: str, done: int, total: int, unit: str = "steps") -> None:
        self.reports.append((stage, done, total))


def double_of_four(target: dict[str, object] | tvm.target.Target) -> tvm.runtime.Executable:
    """Compile x (4,) f32 -> 2 x."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with builder.function("double_of_four", [x]):
        builder.emit_func_output(builder.emit(relax.op.add(x, x)))
    return tvm.compile(builder.get(), target=tvm.target.Target(target))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("library") / "double-webgpu.wasm"
    package(double_of_four(HOST), path)
    return path


def test_a_library_wants_only_what_the_javascript_runtime_has(library: Path) -> None:
    module = read_module(library.read_bytes())
    assert module.imports <= PROVIDED
    assert module.exports == {*EXPORTS, "memory", "_initialize"}


def test_a_library_is_stripped_and_names_no_directory_of_the_machine(library: Path) -> None:
    data = library.read_bytes()
    assert read_module(data).custom == set()
    assert str(Path(tvm.__file__).parents[1]).encode() not in data
    assert str(Path.home()).encode() not in data


def test_the_same_executable_gives_the_same_bytes_and_compiles_nothing_twice(library: Path, tmp_path: Path) -> None:
    stages = Stages()
    package(double_of_four(HOST), tmp_path / "again.wasm", stages)
    assert (tmp_path / "again.wasm").read_bytes() == library.read_bytes()
    assert stages.reports == []


def test_an_unknown_function_is_named_where_linking_fails(tmp_path: Path) -> None:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with builder.function("calls", [x]):
        called = relax.op.call_tir(_calls_extern(builder), [x], relax.TensorType((4,), "float32"))
        builder.emit_func_output(builder.emit(called))
    executable = tvm.compile(builder.get(), target=tvm.target.Target(HOST))
    with pytest.raises(CompileError, match="argosy_missing") as failure:
        package(executable, tmp_path / "calls.wasm")
    assert failure.value.hint
    assert not (tmp_path / "calls.wasm").exists()


def _calls_extern(builder: relax.BlockBuilder) -> relax.GlobalVar:
    from tvm import te

    x = te.placeholder((4,), "float32", "x")
    y = te.compute((4,), lambda i: tvm.tirx.call_pure_extern("float32", "argosy_missing", x[i]), "y")
    return builder.add_func(te.create_prim_func([x, y]), "calls_extern")


def test_errors_reach_javascript_with_their_message_and_the_library_goes_on(library: Path) -> None:
    node = program("node")
    if node is None or not (NPM / "node_modules/@mlc-ai/web-runtime").is_dir():
        pytest.skip("no Node, or no `npm ci` in runtime_bindings/web")
    command = [node, str(Path(__file__).with_name("errors.cjs")), str(NPM), str(library)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    printed = json.loads(result.stdout.splitlines()[-1])
    errors = printed["errors"]
    assert all(error["type"] == "Error" for error in errors.values()), errors
    assert "double_of_four" in errors["shape"]["message"] and "5 vs. 4" in errors["shape"]["message"]
    assert "TypeError" in errors["type"]["message"]
    assert errors["callback"]["message"] == "JSCallbackError: a callback failed"
    assert errors["memory"]["message"] == "InternalError: std::bad_alloc"
    assert "`some.file` cannot be read" in errors["file"]["message"]
    assert printed["after"] == [2, 4, 6, 8]
    assert "a line for the console" in result.stdout


def test_a_missing_toolchain_is_one_sentence_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TargetError, match="`ziglang`") as failure:
        find_toolchain()
    assert failure.value.hint == "`pip install 'argosy[web]'`"


class Copier:
    """A fast toolchain that only copies, and counts its calls."""

    name, version, flags = "copier", "1", "-O"

    def __init__(self, fail: bool = False) -> None:
        self.fail, self.compiled = fail, 0

    def jobs(self, tree: Path) -> list[Job]:
        self.compiled += 1
        program = (
            "import sys; sys.exit('error: no')" if self.fail else "import sys; open(sys.argv[-2], 'wb').write(b'o')"
        )
        return [Job("one.o", (sys.executable, "-c", program), tree / "runtime.cc")]

    def environment(self, scratch: Path) -> dict[str, str]:
        return {}

    def gather(self, pack: Path, scratch: Path, execute: Execute) -> None:
        (pack / "library.a").write_bytes(b"a")

    def link(self, pack: Path, objects: list[Path], output: Path) -> list[str]:
        return []


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARGOSY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_key_follows_everything_that_changes_a_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    zig = Zig("ziglang", "1", Path("zig"))
    keys = {pack_key(zig, "tvm-1"), pack_key(zig, "tvm-2"), pack_key(Zig("ziglang", "2", Path("zig")), "tvm-1")}
    assert pack_key(Zig("ziglang", "1", Path("another/place")), "tvm-1") in keys
    monkeypatch.setattr(Zig, "LINK", (*Zig.LINK, "--growable-table"))
    keys.add(pack_key(zig, "tvm-1"))
    monkeypatch.setattr(cache, "digest_of_ours", lambda: "other sources")
    keys.add(pack_key(zig, "tvm-1"))
    assert len(keys) == 5


@pytest.mark.parametrize("damage", ["altered", "missing", "list", "emptied"])
def test_a_broken_pack_is_compiled_again(own_cache: Path, damage: str) -> None:
    copier = Copier()
    pack = runtime_pack(copier, Stages())
    assert is_whole(pack) and runtime_pack(copier, Stages()) == pack and copier.compiled == 1
    if damage == "altered":
        (pack / "one.o").write_bytes(b"x")
    elif damage == "missing":
        (pack / "library.a").unlink()
    elif damage == "list":
        (pack / cache.LIST).write_text("{")
    else:
        shutil.rmtree(pack)
        pack.mkdir()
    assert not is_whole(pack)
    assert runtime_pack(copier, Stages()) == pack and is_whole(pack) and copier.compiled == 2


def test_one_process_compiles_and_the_others_wait(own_cache: Path) -> None:
    copier, stages = Copier(), [Stages() for _ in range(4)]
    threads = [threading.Thread(target=runtime_pack, args=(copier, stage)) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert copier.compiled == 1
    assert sorted(len(stage.reports) for stage in stages)[:3] == [0, 0, 0]


def test_a_compiler_that_fails_leaves_nothing_behind(own_cache: Path) -> None:
    with pytest.raises(CompileError, match="error: no") as failure:
        runtime_pack(Copier(fail=True), Stages())
    assert failure.value.hint
    assert [path.suffix for path in (own_cache / "webgpu").iterdir()] == [".lock"]


def test_a_failing_command_says_its_first_error() -> None:
    with pytest.raises(CompileError, match="error: first"), Programs() as programs:
        programs.execute([sys.executable, "-c", "import sys; sys.exit('note\\nerror: first\\nerror: second')"])


def test_what_still_runs_ends_with_the_block_and_so_do_programs_that_it_started() -> None:
    program = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
    ended: list[str] = []

    def work() -> None:
        with pytest.raises(CompileError) as failure:
            programs.execute([sys.executable, "-c", program])
        ended.append(failure.value.message)

    begin, thread = time.monotonic(), threading.Thread(target=work)
    with pytest.raises(KeyboardInterrupt), Programs() as programs:
        thread.start()
        while not programs._running:
            time.sleep(0.01)
        time.sleep(1)
        raise KeyboardInterrupt
    thread.join()  # once no program holds the other end of its output
    assert time.monotonic() - begin < 30 and "failed" in ended[0]
    with pytest.raises(CompileError, match="was not run"):
        programs.execute([sys.executable, "-c", ""])
