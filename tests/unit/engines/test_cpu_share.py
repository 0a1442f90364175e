"""A container's processor while it boots, in both versions of the control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taccuino.engines.cpu_share import CpuShare

V1 = "12:memory:/m\n4:cpu,cpuacct:/libpod_parent/libpod-abc\n0::/libpod-abc\n"
V2 = "0::/libpod_parent/libpod-abc\n"


@pytest.mark.parametrize(
    ("cgroup", "directory", "before", "during"),
    [
        (
            V1,
            "cpu/libpod_parent/libpod-abc",
            {"cpu.shares": "1024", "cpu.cfs_quota_us": "50000"},
            {"cpu.shares": "512", "cpu.cfs_quota_us": "-1"},
        ),
        (
            V2,
            "libpod_parent/libpod-abc",
            {"cpu.weight": "100", "cpu.max": "50000 100000"},
            {"cpu.weight": "50", "cpu.max": "max"},
        ),
    ],
)
def test_no_ceiling_and_half_the_weight(
    tmp_path: Path, cgroup: str, directory: str, before: dict, during: dict
) -> None:
    place = tmp_path / directory
    place.mkdir(parents=True)
    for name, value in before.items():
        (place / name).write_text(f"{value}\n")

    def now() -> dict[str, str]:
        return {name: (place / name).read_text().strip() for name in before}

    share = CpuShare(cgroup, tmp_path)
    share.boot()
    assert now() == during
    share.settle()
    assert now() == before
    share.settle()  # once is enough
    for name in before:
        (place / name).unlink()
    share.boot()  # gone, or none of ours: nothing happens
    share.settle()


def test_another_ones_process() -> None:
    assert CpuShare.of_container(os.getpid(), "no-such-container") is None
    assert CpuShare.of_container(2**22 + 1, "") is None
