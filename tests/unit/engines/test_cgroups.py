"""Control groups in a directory in place of the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taccuino.engines.cgroups import ControlGroup, _down_to, controller_paths

V1 = """\
12:memory:/libpod_parent/libpod-abc
4:cpu,cpuacct:/libpod_parent/libpod-abc
1:name=systemd:/elsewhere
0::/
"""
V1_FILES = (
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "cpu.cfs_quota_us",
    "cpu.shares",
)
V2_FILES = ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight")


def test_paths_of_both_versions() -> None:
    paths = controller_paths(V1)
    assert paths["memory"] == paths["cpu"] == "/libpod_parent/libpod-abc"
    assert paths[""] == "/"
    assert controller_paths("0::/a/libpod-abc.scope/container\n") == {
        "": "/a/libpod-abc.scope/container"
    }


def test_the_containers_own_group_is_above_its_processes() -> None:
    assert _down_to("/machine.slice/libpod-abc.scope/container", "abc") == (
        "machine.slice/libpod-abc.scope"
    )


@pytest.mark.parametrize("unified", [False, True])
def test_limits(tmp_path: Path, unified: bool) -> None:
    for name in V2_FILES if unified else V1_FILES:
        (tmp_path / name).write_text("")
    group = ControlGroup(tmp_path, tmp_path, unified=unified)
    group.limit_memory(2 * 1024**3)
    group.limit_cpus(0.5)
    group.weigh(0.1)
    written = {file.name: file.read_text().strip() for file in tmp_path.iterdir()}
    if unified:
        assert written == {
            "memory.max": "2147483648",
            "memory.swap.max": "0",
            "cpu.max": "50000 100000",
            "cpu.weight": "10",
        }
    else:
        assert written == {
            "memory.limit_in_bytes": "2147483648",
            "memory.memsw.limit_in_bytes": "2147483648",
            "cpu.cfs_quota_us": "50000",
            "cpu.shares": "102",
        }


def test_a_kernel_that_counts_no_swap(tmp_path: Path) -> None:
    (tmp_path / "memory.limit_in_bytes").write_text("")
    ControlGroup(tmp_path, tmp_path, unified=False).limit_memory(7)
    assert (tmp_path / "memory.limit_in_bytes").read_text() == "7\n"


def test_a_refusal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such control file"):
        ControlGroup(tmp_path, tmp_path, unified=True).limit_cpus(1)


def test_a_process_that_is_in_no_container() -> None:
    assert ControlGroup.of_process(os.getpid(), "no-container-of-this-id") is None
    assert ControlGroup.of_process(2**22 + 1, "abc") is None
