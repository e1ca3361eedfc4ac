"""Artefact directories are built stage by stage, opened, tampered with, killed half-way, and built again."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argosy.dist import cpu_features
from argosy.dist.artefact import list_artefacts, open_artefact
from argosy.dist.build_directory import BuildDirectory, open_build_directory
from argosy.dist.chat_config import CHAT_CONFIG_NAME, make_chat_config
from argosy.dist.cpu_features import architecture, operating_system
from argosy.dist.fingerprint import config_key, library_key, source_digest, stage_key, weights_key
from argosy.dist.manifest import ABI, MANIFEST_NAME, LibraryTarget, read_manifest, tvm_version
from argosy.dist.tensor_cache import CACHE_NAME
from argosy.support.errors import ArgosyError, ArtefactError
from argosy.support.files import atomic_path

COMMAND = "argosy build --model tiny --target cpu --quantization q4f16_1"
TRIPLE = f"{architecture()}-unknown-{operating_system()}-gnu"
ELSEWHERE = "x86_64" if architecture() == "aarch64" else "aarch64"
CPU = LibraryTarget("cpu", TRIPLE, "generic", ())
TOKENIZER = {"tokenizer.json": b'{"decoder": {"type": "ByteLevel"}}', "tokenizer_config.json": b"{}"}


def open_build(directory: Path, digest: str = "d0") -> Any:
    return open_build_directory(directory, model="tiny", quantization="q4f16_1", checkpoint_digest=digest)


def add_weights(build: BuildDirectory, value: float = 1.0, key: str = "w") -> None:
    with build.weights_writer() as writer:
        writer.add("a.weight", np.full((4, 8), value, np.float16))
        writer.add("b.weight", np.arange(20_000, dtype=np.float32))
        build.publish_weights(writer, key=key, rounding="full")


def add_config(build: BuildDirectory, key: str = "c") -> None:
    config = make_chat_config(
        model_type="llama", quantization="q4f16_1", model_config={"hidden_size": 8, "eos_token_id": 2}, vocab_size=32,
        context_window_size=64, prefill_chunk_size=32, max_batch_size=4, tokenizer_files=TOKENIZER,
    )  # fmt: skip
    build.publish_config(config, TOKENIZER, key=key)


def add_library(build: BuildDirectory, target: LibraryTarget = CPU, key: str = "l", layout: str | None = None) -> None:
    assert build.manifest.weights is not None
    path = build.library_path(target.name)
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"\x7fELF" + target.name.encode())
    build.publish_library(
        path, target, key=key, weights_layout=layout or build.manifest.weights.layout, spec_digest="s"
    )


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("artefacts") / "tiny-q4f16_1"
    with open_build(directory) as build:
        add_weights(build)
        add_config(build)
        add_library(build)
    return directory


@pytest.fixture
def built(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "tiny-q4f16_1"))


Change = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Change) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def refused(directory: Path, sentence: str, target: str | None = None) -> ArtefactError:
    """Open everything; it must raise one error that matches, is one line, and has a hint."""
    with pytest.raises(ArtefactError, match=sentence) as caught:
        found = open_artefact(directory)
        found.library(target)
        found.load_params()
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value


def test_a_complete_artefact_opens(built: Path) -> None:
    found = open_artefact(built)
    assert found.name == "tiny-q4f16_1" and found.config.vocab_size == 32 and found.config.eos_token_ids == (2,)
    assert found.library() == found.library("cpu")
    assert found.library_path(found.library()).name == "tiny-q4f16_1-cpu.so"
    assert found.tokenizer_path().read_bytes() == TOKENIZER["tokenizer.json"]
    assert found.load_params()["a.weight"].shape == (4, 8)
    with pytest.raises(ArtefactError, match=r"merges\.txt` is missing"):
        found.tokenizer_path("merges.txt")


def test_the_directory_can_be_moved(built: Path) -> None:
    moved = built.rename(built.with_name("elsewhere"))
    assert open_artefact(moved).load_params()
    assert str(built.parent) not in (moved / MANIFEST_NAME).read_text()


FILES = [CHAT_CONFIG_NAME, CACHE_NAME, "params_shard_0.bin", "tokenizer.json", "tokenizer_config.json",
         "tiny-q4f16_1-cpu.so"]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_guarded(built: Path, name: str) -> None:
    data, hint = (built / name).read_bytes(), f"{COMMAND} --output {built}"
    middle = len(data) // 2
    (built / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    assert refused(built, rf"{name}` was altered").hint == hint
    (built / name).write_bytes(data[:-1])
    assert refused(built, rf"{name}` has {len(data) - 1} bytes instead of {len(data)}").hint == hint
    (built / name).unlink()
    assert refused(built, rf"{name}` is missing").hint == hint


def test_the_two_lists_of_digests_must_agree(built: Path) -> None:
    """Weights are swapped, tensor-cache.json and its digest updated, but not the shard's digest in the manifest."""
    with open_build(built.with_name("other")) as build:
        add_weights(build, value=2.0)
    for name in (CACHE_NAME, "params_shard_0.bin"):
        shutil.copy(built.with_name("other") / name, built / name)
    digests = read_manifest(built.with_name("other")).files
    record = dataclasses.asdict(digests[CACHE_NAME])
    edit(built / MANIFEST_NAME, lambda data: data["files"].update({CACHE_NAME: record}))
    refused(built, "other digests of `params_shard_0.bin`")


LIBRARY: dict[str, tuple[dict[str, object], str]] = {
    "another abi": ({"abi": ABI + 1}, rf"has ABI {ABI + 1}, and Argosy .* runs ABI {ABI}"),
    "another tvm": ({"tvm_version": "0.1.2"}, r"compiled with TVM 0\.1\.2, and TVM .* is installed"),
    "other weights": ({"weights_layout": "0" * 64}, "compiled for other weights"),
    "another cpu": (
        {"target": {"name": "cpu", "triple": "s390x-ibm-linux", "cpu": "z15", "features": []}},
        "compiled for `s390x-ibm-linux`, and this machine is",
    ),
    "another system": (
        {"target": {"name": "cpu", "triple": f"{architecture()}-pc-windows-msvc", "cpu": "x", "features": []}},
        "windows-msvc`, and this machine is",
    ),
}


@pytest.mark.parametrize(("change", "sentence"), LIBRARY.values(), ids=LIBRARY)
def test_a_library_that_does_not_fit_is_refused(built: Path, change: dict[str, object], sentence: str) -> None:
    edit(built / MANIFEST_NAME, lambda data: data["libraries"]["cpu"].update(change))
    for target in (None, "cpu"):
        assert refused(built, sentence, target).hint == f"{COMMAND} --output {built}"


def test_cpu_features_are_checked_by_name(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features, "host_features", lambda: frozenset({"avx2"}))
    target = {"name": "cpu", "triple": TRIPLE, "cpu": "x", "features": ["+avx512vnni", "avx2", "fast-movbe"]}
    edit(built / MANIFEST_NAME, lambda data: data["libraries"]["cpu"].update(target=target))
    refused(built, "needs the CPU features `avx512vnni`, which this machine lacks")
    monkeypatch.setattr(cpu_features, "host_features", lambda: None)  # a system that does not list its features
    open_artefact(built).library()


def test_the_best_library_that_runs_here_is_chosen(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_features, "host_features", lambda: frozenset({"avx2", "fma"}))
    with open_build(built) as build:
        for name, features in (("cpu-avx2", ("avx2", "fma")), ("cpu-avx512", ("avx2", "fma", "avx512f"))):
            add_library(build, LibraryTarget(name, TRIPLE, "x", features))
        add_library(build, LibraryTarget("webgpu", TRIPLE, "", (), device="webgpu"))
        add_library(build, LibraryTarget("arm64", TRIPLE.replace(architecture(), ELSEWHERE), "x", ("neon", "dotprod")))
    found = open_artefact(built)
    assert found.library().target.name == "cpu-avx2"
    assert found.library("cpu").target.name == "cpu"
    refused(built, "`webgpu`, which this runtime does not drive", "webgpu")
    refused(built, "needs the CPU features `avx512f`", "cpu-avx512")
    refused(built, "no library for `cuda`; it holds arm64, cpu, cpu-avx2, cpu-avx512, webgpu", "cuda")
    found.library_path(found.library()).write_bytes(b"\x7fELF!")  # the best one: altered
    refused(built, "cpu-avx2.so` has 5 bytes")


def test_a_device_runs_the_library_that_was_compiled_for_it(built: Path) -> None:
    with open_build(built) as build:
        add_library(build, LibraryTarget("abacus", TRIPLE, "", (), device="abacus"))
    found = open_artefact(built)
    assert found.library().target.name == "cpu"
    assert found.library(device="abacus").target.name == "abacus"
    with pytest.raises(ArtefactError, match="is for `cpu`, which this runtime does not drive"):
        found.library("cpu", device="abacus")


def test_a_library_for_another_cpu_is_refused_with_a_command_that_helps(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is about the least demanding library for this architecture, and does not advise to build it again."""
    monkeypatch.setattr(cpu_features, "host_features", lambda: frozenset({"avx"}))
    with open_build(built) as build:
        add_library(build, LibraryTarget("cpu", TRIPLE, "x", ("avx2", "avx512f", "avx512vnni")))
        add_library(build, LibraryTarget("x86_64-v3", TRIPLE, "x", ("avx2",)))
        add_library(build, LibraryTarget("arm64", TRIPLE.replace(architecture(), ELSEWHERE), "x", ("neon",)))
    with pytest.raises(ArtefactError, match=r"x86_64-v3\.so` needs the CPU features `avx2`") as refusal:
        open_artefact(built).library()
    assert "--target cpu " in (refusal.value.hint or "")


@pytest.mark.parametrize(
    ("slow", "fast"),
    [
        ({"sse2"}, {"avx2"}),
        ({"avx2", "fma", "aes", "sha", "gfni", "vaes", "vpclmulqdq"}, {"avx2", "avx512f", "avx512vnni"}),
        ({"avx2"}, {"avx2", "avxvnni"}),
        ({"avx2", "fma"}, {"avx2", "fma", "avx512f"}),
        ({"neon", "dotprod", "lse"}, {"neon", "dotprod", "i8mm"}),
    ],
)
def test_how_bytes_are_multiplied_counts_most(slow: set[str], fast: set[str]) -> None:
    assert cpu_features.strength(slow) < cpu_features.strength(fast)


def manifest_change(**changes: object) -> Change:
    return lambda data: data.update(changes)


def config_change(**changes: object) -> Change:
    return lambda data: data["config"].update(changes)


MALFORMED: dict[str, tuple[Change, str]] = {
    "a later abi": (manifest_change(abi=ABI + 1), "has the artefact ABI 2, and this version of Argosy reads ABI 1"),
    "no abi": (lambda data: data.pop("abi"), "`abi` is missing"),
    "an abi that is text": (manifest_change(abi="1"), "`abi` is `'1'`, not a whole number"),
    "a model that is a number": (manifest_change(model=1), "`model` is `1`, not a string"),
    "files that are a list": (manifest_change(files=[]), r"`files` is `\[\]`, not an object"),
    "a file without digest": (lambda data: data["files"].pop("tokenizer.json"), "has no digest of `tokenizer.json`"),
    "a digest that is none": (lambda data: data["files"]["tokenizer.json"].update(sha256="x"), "not a SHA-256"),
    "a file named by a line break": (
        lambda data: data["files"].update({"\n": {}}),
        r"`files` has the key `'\\n'`, which is not printable",
    ),
    "a triple that turns the direction of writing": (
        lambda data: data["libraries"]["cpu"]["target"].update(triple="x86_64\u202e"),
        r"target\.triple` is `x86_64\\u202e`, not a short text of printable characters",
    ),
    "a feature that steers a terminal": (
        lambda data: data["libraries"]["cpu"]["target"].update(features=["avx", "\x1b[31m"]),
        r"features\[1\]` is `\\x1b\[31m`",
    ),
    "a target named by a line break": (
        lambda data: data["libraries"].update({"a\nb": data["libraries"]["cpu"]}),
        r"`libraries` has the key `'a\\nb'`",
    ),
    "a negative size": (lambda data: data["files"]["tokenizer.json"].update(bytes=-1), "not at least 0"),
    "a config file elsewhere": (config_change(files=["../secret"]), r"`config\.files\[0\]` is `'\.\./secret'`, not a"),
    "a config file from the root": (config_change(files=["/etc/passwd"]), "not a plain file name"),
    "a library elsewhere": (lambda data: data["libraries"]["cpu"].update(file="a/b.so"), "not a plain file name"),
    "a library that is null": (lambda data: data["libraries"].update(cpu=None), r"`libraries\.cpu` is `None`"),
    "features that are text": (lambda data: data["libraries"]["cpu"]["target"].update(features="avx"), "not a list"),
    "features of numbers": (lambda data: data["libraries"]["cpu"]["target"].update(features=[1]), "list of strings"),
    "another layout": (lambda data: data["weights"].update(layout="0" * 64), "other weights than its manifest says"),
    "no weights": (manifest_change(weights=None), "is half-built: its weights stage is not complete"),
    "no config": (manifest_change(config=None), "is half-built: its config stage is not complete"),
    "no library": (manifest_change(libraries={}), "holds no library yet"),
}


@pytest.mark.parametrize(("change", "sentence"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_manifest_is_refused(built: Path, change: Change, sentence: str) -> None:
    edit(built / MANIFEST_NAME, change)
    refused(built, sentence)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b'{"abi": NaN}'])
def test_a_manifest_that_is_no_json_object(built: Path, data: bytes) -> None:
    (built / MANIFEST_NAME).write_bytes(data)
    refused(built, "is malformed")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_fuzzed_manifests_are_read_or_refused(pristine: Path, tmp_path: Path, data: st.DataObject) -> None:
    texts = st.text(max_size=5) | st.just("../x")
    value = st.none() | st.integers(-2, 2) | texts | st.lists(texts, max_size=2)
    manifest = json.loads((pristine / MANIFEST_NAME).read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        place: Any = manifest
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(value | st.dictionaries(st.text(max_size=3), value, max_size=2))
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest))
    try:
        manifest = read_manifest(tmp_path)
    except ArtefactError as error:
        assert "\n" not in error.message
    else:
        assert all(Path(name).name == name for name in manifest.used_files())


def test_no_directory_a_file_and_a_foreign_directory(built: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "tiny-q4f16", "there is no artefact directory").hint == "did you mean `tiny-q4f16_1`?"
    for path in (tmp_path / "gone" / "x", tmp_path / ("x" * 300)):
        refused(path, "there is no artefact directory")
    refused(built / "tokenizer.json", "is a file, not an artefact directory")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"is not an artefact directory: it has no `{MANIFEST_NAME}`")
    assert list_artefacts(tmp_path) == [built] and list_artefacts(tmp_path / "gone") == []


@pytest.mark.parametrize("cache", [CACHE_NAME, "ndarray-cache.json"])
def test_a_directory_of_mlc_gives_its_weights(built: Path, cache: str) -> None:
    (built / MANIFEST_NAME).unlink()
    (built / CACHE_NAME).rename(built / cache)
    found = open_artefact(built)
    assert found.load_params()["a.weight"][0, 0] == 1
    with pytest.raises(ArtefactError, match="as if MLC had made it: weights, but no library") as caught:
        found.library()
    assert caught.value.hint is not None and "--quantization q4f16_1" in caught.value.hint
    (built / CHAT_CONFIG_NAME).unlink()
    refused(built, "is half-built")


def metadata(built: Path, **changes: object) -> str:
    record = open_artefact(built).library()
    values: dict[str, object] = {
        "abi": ABI, "tvm_version": tvm_version(), "weights_layout": record.weights_layout, "spec_digest": "s",
        "target": dataclasses.asdict(CPU), "params": [{"name": "a.weight", "shape": [4, 8], "dtype": "float16"}],
        "context_window_size": 64, "prefill_chunk_size": 32, "max_batch_size": 4, "page_size": 16, "vocab_size": 32,
        "hidden_size": 8, "num_layers": 1, "sliding_window_size": -1, "kv_bytes_per_token": 64,
        "activations": "int8", "kv_dtype": "float16",
    }  # fmt: skip
    return json.dumps({**values, **changes})


def test_the_loaded_library_is_asked_as_well(built: Path) -> None:
    found = open_artefact(built)
    loaded = found.check_metadata(found.library(), metadata(built))
    assert loaded.params == (("a.weight", (4, 8), "float16"),)
    assert (loaded.vocab_size, loaded.kv_bytes_per_token, loaded.values["hidden_size"]) == (32, 64, 8)
    for name, value in (("abi", 2), ("tvm_version", "x"), ("weights_layout", "0" * 64), ("spec_digest", "t")):
        with pytest.raises(ArtefactError, match=f"not the library of the manifest: `{name}` is"):
            found.check_metadata(found.library(), metadata(built, **{name: value}))
    for text in ("", "[]", metadata(built, params=[1]), metadata(built, vocab_size=None)):
        with pytest.raises(ArtefactError, match="is malformed"):
            found.check_metadata(found.library(), text)


def test_stages_are_current_until_their_key_or_a_file_changes(built: Path) -> None:
    with open_build(built) as build:
        weights, config, library = build.manifest.weights, build.manifest.config, build.manifest.libraries["cpu"]
        assert build.is_current(weights, "w") and build.is_current(config, "c") and build.is_current(library, "l")
        assert not (build.is_current(weights, "W") or build.is_current(config, "C") or build.is_current(library, "L"))
        assert not build.is_current(None, "l")
        (built / "params_shard_0.bin").write_bytes(b"short")
        (built / "tokenizer.json").unlink()
        assert not build.is_current(weights, "w") and not build.is_current(config, "c")
        assert build.is_current(library, "l")


def test_rebuilding_the_weights_leaves_the_library_and_drops_old_shards(built: Path) -> None:
    library = (built / "tiny-q4f16_1-cpu.so").stat().st_mtime_ns
    with open_build(built, digest="d1") as build:
        add_weights(build, value=3.0, key="w1")
    found = open_artefact(built)
    assert found.load_params()["a.weight"][0, 0] == 3 and found.library()
    assert (built / "tiny-q4f16_1-cpu.so").stat().st_mtime_ns == library
    assert found.manifest is not None and found.manifest.checkpoint_digest == "d1"
    assert set(found.manifest.files) == set(FILES)


def test_a_stage_that_fails_leaves_the_directory_as_it_was(built: Path) -> None:
    before = {path.name: path.read_bytes() for path in built.iterdir()}
    with pytest.raises(KeyboardInterrupt), open_build(built) as build, build.weights_writer() as writer:
        writer.add("a.weight", np.zeros(100, np.float16))
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in built.iterdir()} == before


def test_a_first_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_build(tmp_path / "new") as build, build.weights_writer() as writer:
        writer.add("a.weight", np.zeros(100, np.float16))
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()


def test_a_broken_manifest_means_building_everything(built: Path) -> None:
    (built / MANIFEST_NAME).write_text("{")
    with open_build(built) as build:
        assert not build.is_current(build.manifest.weights, "w")
        add_weights(build)
        add_config(build)
        add_library(build)
    assert open_artefact(built).library()


def test_other_peoples_files_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    sentence = r"holds other files \(`thesis\.tex`\) and no artefact"
    with pytest.raises(ArtefactError, match=sentence), open_build(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_tokenizer_file_cannot_escape(tmp_path: Path) -> None:
    with pytest.raises(ArgosyError, match=r"`\.\./evil\.json`"), open_build(tmp_path / "new") as build:
        build.publish_config(None, {"../evil.json": b"{}"}, key="c")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def build_and_die(directory: Path, steps: int) -> bool:
    """Build in a child that kills itself with SIGKILL at fsync number `steps`; return whether it finished."""
    child = os.fork()
    if child == 0:
        left, real = [steps], os.fsync

        def fsync(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)

        os.fsync = fsync
        try:
            with open_build(directory) as build:
                add_weights(build, value=2.0, key="w2")
                add_config(build, key="c2")
                add_library(build, key="l2")
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


@pytest.mark.parametrize("existing", [False, True], ids=["fresh", "over an older build"])
def test_kill_minus_nine_leaves_what_the_next_build_completes(pristine: Path, tmp_path: Path, existing: bool) -> None:
    """A build killed at any fsync leaves the old state, the new one or a refusal, never a mixture."""
    for step in range(100):
        directory = tmp_path / str(step) / "tiny-q4f16_1"
        if existing:
            shutil.copytree(pristine, directory)
        if build_and_die(directory, step):
            assert step > 15
            return
        try:
            found = open_artefact(directory)
            found.library()
            assert found.load_params()["a.weight"][0, 0] in (1, 2)
        except ArtefactError as error:
            assert error.hint
        with open_build(directory) as build:
            if not build.is_current(build.manifest.weights, "w2"):
                add_weights(build, value=2.0, key="w2")
            if not build.is_current(build.manifest.config, "c2"):
                add_config(build, key="c2")
            if not build.is_current(build.manifest.libraries.get("cpu"), "l2"):
                add_library(build, key="l2")
        assert open_artefact(directory).load_params()["a.weight"][0, 0] == 2
        assert {path.name for path in directory.iterdir()} == {*FILES, MANIFEST_NAME}
    pytest.fail("the build never ran to its end: raise the number of steps")


def test_keys_depend_on_every_part() -> None:
    weights = {"checkpoint_digest": "a", "scheme": "b", "rounding": "c", "spec_digest": "d"}
    config = {"checkpoint_digest": "a", "scheme": "b", "bounds": {"context": 1}, "preset": {"top_k": 1}}
    library = {"spec_digest": "d", "formats": {"x": "f16"}, "target": {"name": "cpu"}, "bounds": {"context": 1}}
    for function, parts in ((weights_key, weights), (config_key, config), (library_key, library)):
        keys = {function(**parts)} | {  # type: ignore[operator]
            function(**{**parts, name: {"other": 2} if isinstance(value, dict) else "other"})  # type: ignore[operator]
            for name, value in parts.items()
        }
        assert len(keys) == len(parts) + 1
    assert stage_key("a", x=1) != stage_key("b", x=1)


def test_sources_are_digested_without_importing_them() -> None:
    code = (
        "import sys; from argosy.dist.fingerprint import library_key;"
        "library_key(spec_digest='', formats={}, target={}, bounds={});"
        "print([m for m in sys.modules if m.split('.')[0] in ('tvm', 'torch') or m.startswith('argosy.compiler')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert source_digest("argosy.quant") != source_digest("argosy.dist.manifest")
