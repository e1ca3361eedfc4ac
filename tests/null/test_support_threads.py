"""The number of compute threads follows cores, cpusets and the quotas of control groups, read from fake trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from argosy.support import threads
from argosy.support.threads import compute_threads, cpu_quota, physical_cores


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3.0),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "300000 100000\n"}, 2.0),
        ("0::/docker/of-the-host\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("2:io,cpu:/x\n", {"io,cpu/x/cpu.cfs_quota_us": "250000", "io,cpu/x/cpu.cfs_period_us": "100000"}, 2.5),
        ("2:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ("2:cpu,cpuacct:/gone\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"}, 2.0),
        ("2:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("2:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1000", "cpuset/cpu.cfs_period_us": "1000"}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("0::/\n", {"cpu.max": "1000 0\n"}, None),
        ("0::/\n", {}, None),
        ("what is this\n", {}, None),
    ],
)  # fmt: skip
def test_threads_quota_of_both_versions(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "cgroup").write_text(membership)
    assert cpu_quota(tree(tmp_path / "mounted", files), tmp_path / "cgroup") == quota


def test_threads_no_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path, tmp_path / "missing") is None


def test_threads_are_cores_of_the_cpuset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardware threads 0 and 4 share a core, as do 1 and 5, and 2 and 6; the process may run on 0, 4, 1 and 6."""
    files = {f"cpu{i}/topology/thread_siblings_list": f"{i % 4},{i % 4 + 4}\n" for i in range(8)}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 4, 1, 6}, raising=False)
    assert physical_cores(tree(tmp_path, files)) == 3
    assert physical_cores(tmp_path / "unknown") == 4


@pytest.mark.parametrize(
    ("cores", "quota", "count"), [(8, None, 8), (8, 2.0, 2), (8, 1.2, 2), (2, 6.0, 2), (8, 0.1, 1)]
)
def test_threads_stay_within_the_quota(
    monkeypatch: pytest.MonkeyPatch, cores: int, quota: float | None, count: int
) -> None:
    monkeypatch.delenv("ARGOSY_THREADS", raising=False)
    monkeypatch.setattr(threads, "physical_cores", lambda: cores)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert compute_threads() == count
    monkeypatch.setenv("ARGOSY_THREADS", "5")
    assert compute_threads() == 5
