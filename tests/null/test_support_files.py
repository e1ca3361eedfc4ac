"""Files are complete or absent, a lock has one holder, and a full disk is reported with sizes."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from argosy.support.errors import ArgosyError
from argosy.support.files import (
    LOCK_NAME,
    TEMP_MARK,
    atomic_path,
    directory_lock,
    disk_space_guard,
    remove_leftovers,
    require_space,
    sha256_file,
    temp_path,
    write_bytes_atomic,
    write_json_atomic,
)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "library.so"
    final.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(final) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".so"
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert final.read_text() == "old"
    assert names(tmp_path) == ["library.so"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArgosyError, match="was not written"), atomic_path(tmp_path / "x"):
        pass
    assert names(tmp_path) == []


def test_json_replaces_the_old_file(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "a.json", {"x": 1})
    write_json_atomic(tmp_path / "a.json", {"x": "ä"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "x": "ä"\n}\n'
    with pytest.raises(ValueError):
        write_json_atomic(tmp_path / "a.json", {"x": float("nan")})
    assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_sha256_of_more_than_one_block(tmp_path: Path) -> None:
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_how_much_is_missing(tmp_path: Path, code: int) -> None:
    sentence = r"no space left.*81\.2 MB needed, .* free"
    with pytest.raises(ArgosyError, match=sentence) as caught, disk_space_guard(tmp_path / "shard", 81_200_000):
        raise OSError(code, os.strerror(code))
    assert caught.value.hint is not None and "--output" in caught.value.hint


def test_other_errors_pass_the_guard(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), disk_space_guard(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_too_little_space_is_known_beforehand(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(ArgosyError, match="needed"):
        require_space(tmp_path / "not" / "there" / "yet", 1 << 62)


def test_a_device_that_is_really_full() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full on this system")
    device = Path("/dev/full")
    with (
        pytest.raises(ArgosyError, match="no space left"),
        disk_space_guard(device),
        open(device, "wb", buffering=0) as file,
    ):
        file.write(b"x")


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".hidden", "tokenizer.json", "params_shard_0.bin"):
        (tmp_path / name).write_text("keep")
    temp_path(tmp_path / "params_shard_1.bin").write_text("half")
    (tmp_path / f"{TEMP_MARK}folder").mkdir()
    removed = remove_leftovers(tmp_path)
    assert len(removed) == 1 and removed[0].endswith("params_shard_1.bin")
    assert names(tmp_path) == [f"{TEMP_MARK}folder", ".hidden", "params_shard_0.bin", "tokenizer.json"]


def test_the_lock_removes_itself_and_an_empty_directory(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    with directory_lock(directory):
        assert names(directory) == [LOCK_NAME]
    assert not directory.exists()
    with directory_lock(directory):
        (directory / "file").write_text("")
    assert names(directory) == ["file"]


def test_a_file_in_the_way_and_a_read_only_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ArgosyError, match="in the way"), directory_lock(place):
            pass
    with pytest.raises(ArgosyError, match="cannot be"), directory_lock(Path("/proc/argosy")):
        pass


HOLDER = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from argosy.support.files import directory_lock
    with directory_lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
""")


def hold(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_build_is_refused_and_a_killed_one_is_no_obstacle(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        sentence = rf"written by another build \(process {process.pid}\)"
        with pytest.raises(ArgosyError, match=sentence), directory_lock(tmp_path):
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
    assert (tmp_path / LOCK_NAME).exists()
    with directory_lock(tmp_path):
        assert (tmp_path / LOCK_NAME).read_text() == f"{os.getpid()}\n"


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / LOCK_NAME).symlink_to(victim)
    with pytest.raises(ArgosyError, match="cannot be written"), directory_lock(directory):
        pass
    assert victim.read_text() == "precious"


def test_bytes_are_written_through_a_link_never(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "tokenizer.json").symlink_to(victim)
    write_bytes_atomic(tmp_path / "tokenizer.json", b"new")
    assert victim.read_text() == "precious"
    assert (tmp_path / "tokenizer.json").read_text() == "new"
