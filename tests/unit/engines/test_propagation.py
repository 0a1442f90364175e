"""Which binds ask for later mounts, where Docker refuses what can't come."""

from __future__ import annotations

from pathlib import Path

import pytest

from taccuino.engines import Bind
from taccuino.engines.propagation import accepted_binds, propagates

TABLE = """\
21 1 254:0 / / rw,relatime - ext4 /dev/root rw
22 21 0:20 / /sys rw - sysfs sysfs rw
30 21 254:0 /mounts /srv/mounts rw shared:5 - ext4 /dev/root rw
31 30 7:1 / /srv/mounts/alice rw shared:6 master:5 - ext4 /dev/loop1 rw
32 30 0:9 / /srv/mounts/of\\040bob rw master:5 - fuse x rw
33 30 0:9 / /srv/mounts/covered rw shared:5 - ext4 x rw
34 30 0:9 / /srv/mounts/covered rw - tmpfs x rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", False),
        ("/srv", False),
        ("/srv/mountsx", False),
        ("/srv/mounts", True),
        ("/srv/mounts/carol/deep", True),
        ("/srv/mounts/alice/local", True),
        ("/srv/mounts/of bob", True),
        ("/srv/mounts/covered", False),
        ("/sys/fs", False),
    ],
)
def test_propagates(path: str, expected: bool) -> None:
    assert propagates(Path(path), TABLE) is expected


def test_only_what_can_not_propagate_is_made_private(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(TABLE)
    binds = [
        Bind(Path("/srv/mounts/alice"), "/workarea"),
        Bind(Path("/data"), "/data", read_only=True),
        Bind(Path("/data"), "/own", propagation="private"),
    ]
    found = accepted_binds(binds, table)
    assert [bind.propagation for bind in found] == ["rslave", "rprivate", "private"]
    assert found[1].read_only
