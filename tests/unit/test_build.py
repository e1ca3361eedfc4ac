"""Builds of a tiny checkpoint: what is skipped, what is mended, and what a failed build leaves behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from tiny_checkpoint import save_checkpoint

from argosy.build import STAGES, BuildReport, BuildRequest, Stage, build, prepare
from argosy.build.library import library_step
from argosy.cli.stages import Stopping, stoppable
from argosy.dist.artefact import Artefact, open_artefact
from argosy.dist.library_file import library_metadata
from argosy.dist.manifest import LibraryRecord, read_manifest
from argosy.runtime_bindings.engine.loading import load_library
from argosy.support.errors import ArgosyError, ArtefactError, CheckpointError, SchemeError, TargetError, UsageError
from argosy.support.progress import SilentProgress

DATA: tuple[Stage, ...] = ("weights", "config")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


def run(checkpoint: Path, output: Path, stages: tuple[Stage, ...] = DATA, **choices: object) -> BuildReport:
    return build(BuildRequest(str(checkpoint), output=output, **choices), SilentProgress(), stages)  # type: ignore[arg-type]


def skipped(report: BuildReport) -> dict[str, bool]:
    return {stage.stage: stage.skipped for stage in report.stages}


@pytest.fixture(scope="module")
def built(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildReport:
    """Build and compile once for all tests of this file, with a debug dump beside the artefact."""
    folder = tmp_path_factory.mktemp("built")
    return run(checkpoint, folder / "out", STAGES, debug_dump=folder / "dump", context_window=128)


def argosy(*args: str | Path, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "argosy.cli", *map(str, args)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=variables)


def test_a_build_makes_an_artefact_that_opens(built: BuildReport) -> None:
    assert built.complete and not any(skipped(built).values())
    artefact = open_artefact(built.directory)
    assert artefact.library("cpu").weights_layout == artefact.cache.layout()
    assert artefact.config.context_window_size == 128 and artefact.config.conv_template is not None
    assert not [path.name for path in built.directory.iterdir() if path.name.startswith(".")], "leftovers of the build"


def test_a_second_build_does_nothing(checkpoint: Path, built: BuildReport) -> None:
    times = {path.name: path.stat().st_mtime_ns for path in built.directory.iterdir()}
    again = argosy("build", "-m", checkpoint, "-o", built.directory, "--context-window", "128", "--json")
    report = json.loads(again.stdout)
    assert again.returncode == 0 and report["complete"], again.stderr
    assert [stage["skipped"] for stage in report["stages"]] == [True] * 3
    assert times == {path.name: path.stat().st_mtime_ns for path in built.directory.iterdir()}


def test_what_was_built_can_be_inspected(built: BuildReport) -> None:
    shown = json.loads(argosy("inspect", built.directory, "--json").stdout)
    library = next(name for name in shown["libraries"])
    assert shown["libraries"][library]["context_window_size"] == 128
    assert {row["name"] for row in shown["files"]} == {path.name for path in built.directory.iterdir()}
    assert not [row for row in shown["files"] if row["what"] == "unknown"]
    assert library_metadata(built.directory / library) == shown["libraries"][library]
    broken = built.directory.parent / "broken.so"
    broken.write_bytes(b"no library")
    refused = argosy("inspect", broken)
    assert refused.returncode == 1 and len(refused.stderr.splitlines()) == 2
    assert refused.stderr.startswith(f"error: `{broken}` is not a library that Argosy has built")


def test_a_library_exchanged_after_it_was_chosen_is_not_loaded(
    built: BuildReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "exchanged"
    shutil.copytree(built.directory, directory)
    choose = Artefact.library

    def exchange(self: Artefact, target: str | None = None, device: str = "cpu") -> LibraryRecord:
        record = choose(self, target, device)
        path = self.library_path(record)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        return record

    monkeypatch.setattr(Artefact, "library", exchange)
    with pytest.raises(ArtefactError, match="was altered"):
        load_library(open_artefact(directory))


def test_a_debug_dump_has_every_phase_and_can_be_compared(built: BuildReport, tmp_path: Path) -> None:
    dump = built.directory.parent / "dump"
    phases = list(json.loads(argosy("inspect", dump, "--json").stdout))
    assert phases[0] == "lower" and phases[-1].startswith("generated") and len(phases) > 3
    changed = tmp_path / "changed"
    shutil.copytree(dump, changed)
    first = sorted(changed.iterdir())[0]
    first.write_text("a line\n" + first.read_text())
    shown = argosy("inspect", "--diff", dump, changed)
    assert shown.returncode == 0 and "lower: 1 lines added, 0 removed" in shown.stdout
    assert shown.stdout.count(": the same") == len(phases) - 1
    assert "+a line" in shown.stdout.splitlines()


def test_it_can_be_listed(built: BuildReport) -> None:
    found = json.loads(argosy("list", "artefacts", "--json", ARGOSY_DIST=str(built.directory.parent)).stdout)
    assert [Path(row["name"]).name for row in found] == [built.directory.name]


def test_it_talks(built: BuildReport) -> None:
    asked = ("chat", built.directory, "--temperature", "0", "--max-tokens", "8", "--threads", "1")
    one = argosy(*asked, "--prompt", "hello", "--json")
    record = json.loads(one.stdout)
    assert one.returncode == 0 and record["completion_tokens"] <= 8 and record["stats"]["threads"] == 1, one.stderr
    lines = argosy(*asked, "--json", stdin="hello\nhello again\n")
    answers = [json.loads(line) for line in lines.stdout.splitlines()]
    assert answers[0]["text"] == record["text"] and answers[1]["stats"]["answer"]["reused_tokens"] > 0
    refused = argosy("chat", built.directory, "--prompt", "hello", "--top-p", "2")
    assert refused.returncode == 2 and refused.stderr.startswith("error: `top_p=2.0`"), refused.stderr
    long = argosy("chat", built.directory, "--prompt", "x" * 1000)
    assert long.returncode == 1 and "1000" not in long.stderr and "context window" in long.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on Windows")
def test_ctrl_c_in_a_terminal_stops_the_answer_and_not_the_program(built: BuildReport) -> None:
    import pty

    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "argosy.cli", "chat", str(built.directory), "--on-context-full", "slide",
               "--logit-bias", f"{open_artefact(built.directory).config.eos_token_ids[0]}=-inf"]  # fmt: skip
    process = subprocess.Popen(command, stdin=secondary, stdout=secondary, stderr=secondary, start_new_session=True,
                               preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))  # fmt: skip
    os.close(secondary)
    seen = ""

    def until(words: str) -> None:
        nonlocal seen
        while words not in seen:
            seen += os.read(primary, 4096).decode(errors="replace")
        seen = seen.partition(words)[2]

    until("/help lists commands")
    until("> ")
    os.write(primary, b"hello\n")
    until("hello\r\n")
    while len(seen) < 4:  # the answer has begun
        seen += os.read(primary, 4096).decode(errors="replace")
    os.write(primary, b"\x03")
    until("(stopped)")
    until("> ")
    os.write(primary, b"/stats\n")
    until("decode: ")
    until("> ")
    os.write(primary, b"\x04")
    try:
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(primary)


def test_parts_add_up_to_the_whole(checkpoint: Path, tmp_path: Path) -> None:
    assert not run(checkpoint, tmp_path / "out", ("config",)).complete
    report = run(checkpoint, tmp_path / "out", DATA)
    assert skipped(report) == {"weights": False, "config": True} and not report.complete


def test_rounding_changes_the_weights_only(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "out")
    before = read_manifest(tmp_path / "out")
    report = run(checkpoint, tmp_path / "out", rounding="rtn")
    assert skipped(report) == {"weights": False, "config": True}
    after = read_manifest(tmp_path / "out")
    assert before.weights and after.weights and before.weights.layout == after.weights.layout
    assert before.files["params_shard_0.bin"] != after.files["params_shard_0.bin"]


def test_only_options_that_a_target_honours_are_in_the_key_of_its_library(checkpoint: Path) -> None:
    def key(target: str, **options: str) -> str:
        return library_step(target).key(prepare(BuildRequest(str(checkpoint), ("cpu",), **options)))  # type: ignore[arg-type]

    assert key("cpu") == key("cpu", kv="f16") == key("cpu", activations="int8") != key("x86_64-v3")
    assert len({key("cpu"), key("cpu", kv="f32"), key("cpu", activations="f32")}) == 3
    # `--target cpu` is in the request, so that its options are accepted; the other target's key ignores them
    assert key("webgpu") == key("webgpu", kv="f32", activations="f32")


def test_bounds_change_the_config_only(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "out")
    assert skipped(run(checkpoint, tmp_path / "out", context_window=32)) == {"weights": True, "config": False}


def test_another_checkpoint_in_the_same_place_replaces_everything(checkpoint: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "other", seed=1)
    run(checkpoint, tmp_path / "out")
    assert not any(skipped(run(other, tmp_path / "out")).values())


def test_an_altered_shard_is_mended(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "out")
    shard = tmp_path / "out" / "params_shard_0.bin"
    sound = shard.read_bytes()
    shard.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    assert skipped(run(checkpoint, tmp_path / "out")) == {"weights": False, "config": True}
    assert shard.read_bytes() == sound


def test_force_does_everything_again(checkpoint: Path, tmp_path: Path) -> None:
    run(checkpoint, tmp_path / "out")
    assert not any(skipped(run(checkpoint, tmp_path / "out", force=True)).values())


def fail_after_some_tensors(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    from argosy.dist.tensor_cache import TensorCacheWriter

    add = TensorCacheWriter.add
    count = 0

    def failing(self: TensorCacheWriter, name: str, array: object) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise error
        add(self, name, array)  # type: ignore[arg-type]

    monkeypatch.setattr(TensorCacheWriter, "add", failing)


def test_ctrl_c_leaves_nothing(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_after_some_tensors(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_sentence_and_leaves_the_old_weights(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(checkpoint, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(self: object, data: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("argosy.dist.tensor_cache.TensorCacheWriter._write", full)
    with pytest.raises(ArgosyError, match="no space left on the disk"):
        run(checkpoint, tmp_path / "out", force=True)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}


def test_too_small_a_disk_is_found_before_the_work(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argosy.support.files.free_space", lambda path: 1000)
    with pytest.raises(ArgosyError, match=r"needed, 1.0 kB free"):
        run(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from argosy.build import BuildRequest, build
from argosy.dist.tensor_cache import TensorCacheWriter
from argosy.support.progress import SilentProgress
class Killer(SilentProgress):
    def report(self, stage, done, total, unit="steps"):
        if stage == {stage!r} and {least} <= done:
            os.kill(os.getpid(), signal.SIGKILL)
build(BuildRequest(sys.argv[1], output=__import__("pathlib").Path(sys.argv[2])), Killer(), ("weights", "config"))
"""


@pytest.mark.parametrize(("stage", "least"), [("convert weights", 1), ("writing config", 0)])
def test_a_killed_build_is_completed_by_the_next(checkpoint: Path, tmp_path: Path, stage: str, least: int) -> None:
    output = tmp_path / "out"
    script = KILLED.format(stage=stage, least=least)
    result = subprocess.run([sys.executable, "-c", script, str(checkpoint), str(output)], check=False)
    assert result.returncode == -signal.SIGKILL
    with pytest.raises(ArgosyError):
        open_artefact(output)
    report = run(checkpoint, output)
    assert skipped(report)["weights"] == (stage == "writing config")
    assert open_artefact(output)
    assert not [path.name for path in output.iterdir() if path.name.startswith(".")]


def test_two_builds_in_one_directory_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    from argosy.support.files import directory_lock

    with directory_lock(tmp_path / "out"), pytest.raises(ArgosyError, match="another build"):
        run(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    ("choices", "kind", "words"),
    [
        ({"quantization": "q5f16"}, SchemeError, "`q5f16`"),
        ({"quantization": "keep"}, SchemeError, "`keep`"),
        ({"targets": ("tpu",)}, TargetError, "`tpu`"),
        ({"rounding": "up"}, UsageError, "`up`"),
        ({"context_window": 10**6}, UsageError, "1000000"),
        ({"max_batch": 100000}, UsageError, "100000"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    checkpoint: Path, tmp_path: Path, choices: dict[str, object], kind: type[ArgosyError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        run(checkpoint, tmp_path / "out", **choices)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_directory_without_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        prepare(BuildRequest(str(tmp_path / "empty")))


def test_a_checkpoint_that_lacks_a_tensor_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    directory = save_checkpoint(tmp_path / "tiny")
    tensors = load_file(directory / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight"):
        run(directory, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_machine_without_linker_says_so_before_it_compiles(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name, find=importlib.util.find_spec: (
        None if name == "ziglang" else find(name)))  # fmt: skip
    monkeypatch.setattr("argosy.compiler.build.compile_library", lambda *args, **more: pytest.fail("it compiled"))
    with pytest.raises(TargetError, match="no C compiler") as caught:
        run(checkpoint, tmp_path / "out", STAGES)
    assert "ziglang" in str(caught.value.hint)


def test_a_polite_kill_is_a_ctrl_c_whatever_the_compiler_makes_of_it() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise RuntimeError from None
    with pytest.raises(RuntimeError), stoppable():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_signal_that_is_to_be_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable() as signals:
            os.kill(os.getpid(), signal.SIGINT)
        assert not signals.stop and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_was_lost_counts_at_the_next_report() -> None:
    with pytest.raises(KeyboardInterrupt), stoppable() as signals:
        progress = Stopping(SilentProgress(), signals)
        progress.report("compile", 0, 2)
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        progress.report("compile", 1, 2)


def test_a_real_ctrl_c_while_compiling_stops_cleanly(checkpoint: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    command = [sys.executable, "-m", "argosy.cli", "build", "-m", str(checkpoint), "-o", str(output)]
    environment = {**os.environ, "ARGOSY_PROGRESS": "lines"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("load the compiler"):
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(timeout=60) == 130, rest
    assert "stopped" in rest.splitlines() and "Traceback" not in rest
    manifest = read_manifest(output)
    assert manifest.weights and manifest.config and not manifest.libraries
    assert not [path.name for path in output.iterdir() if path.name.startswith(".") or path.suffix == ".so"]
