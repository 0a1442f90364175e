"""Where rclone's control groups lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.settings import Settings
from taccuino.storage.mount_plane.limits import Hierarchies, ProcessGroup

V1 = """\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,relatime,pids 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
"""
V2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n"
ROOT = Path("/sys/fs/cgroup")


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        (V1, Hierarchies({"memory": ROOT / "memory", "pids": ROOT / "pids"})),
        (V2, Hierarchies({}, ROOT)),
        ("proc /proc proc rw 0 0\n", Hierarchies({})),
    ],
)
def test_hierarchies(mounts: str, found: Hierarchies) -> None:
    assert Hierarchies.parse(mounts) == found


def test_instances_have_groups_of_their_own(tmp_path: Path) -> None:
    groups = [
        ProcessGroup.of(Settings.parse({"state_dir": str(tmp_path / name)}), "alice")
        for name in ("a", "b")
    ]
    assert groups[0].name != groups[1].name
    assert all(group.name.endswith("/alice") for group in groups)
    assert (groups[0].memory, groups[0].threads) == (1 << 30, 512)


def test_both_limits_in_one_group_of_v2(tmp_path: Path) -> None:
    group = ProcessGroup("taccuino-x/alice", 123, 45, Hierarchies({}, tmp_path))
    directory = tmp_path / group.name
    directory.mkdir(parents=True)
    for name in ("memory.max", "pids.max"):
        (directory / name).touch()
    (directory / "memory.events").write_text("oom 3\noom_kill 2\noom_group_kill 0\n")
    group.admit(2**22 + 1)  # no such process: only its group is looked at
    assert (directory / "memory.max").read_text() == "123"
    assert (directory / "pids.max").read_text() == "45"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert (directory.parent / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert group.kills() == 2


def test_a_machine_without_groups_starts_rclone_too(caplog: pytest.LogCaptureFixture) -> None:
    group = ProcessGroup("taccuino-x/alice", 1, 1, Hierarchies({}))
    group.admit(2**22 + 1)
    group.admit(2**22 + 1)
    assert group.kills() == 0
    group.remove()
    assert caplog.text.count("no limits on rclone's memory and threads") <= 1
