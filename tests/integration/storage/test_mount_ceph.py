"""The mount plane over real Ceph, with the credentials of a real role session."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.mounts import UID, MountRig, eventually, mount_rig
from support.storage_stack import Stack
from taccuino.storage import BucketProvisioner, StorageTokenService, bucket_name
from taccuino.storage.mount_plane.kernel import MountTable

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting file systems needs root"),
]


@pytest.fixture
async def rig(stack: Stack) -> AsyncIterator[MountRig]:
    provisioner = BucketProvisioner(stack.settings, stack.clients)
    await provisioner.ensure_user("alice", "alice")
    await provisioner.ensure_user("bruno", "bruno")
    service = StorageTokenService(stack.settings, stack.clients)

    async def credentials(username: str) -> dict[str, Any]:
        session = await service.credentials(username, stack.mint(username))
        return session.as_container_json()

    async with mount_rig(endpoint=stack.settings.storage.endpoint) as running:
        running.credentials = credentials
        running.request = replace(
            running.request,
            bucket=bucket_name(stack.settings, "alice"),
            scratch_bucket=stack.settings.storage.scratch_bucket,
        )
        yield running
        print(running.log)


async def reader(stack: Stack, username: str) -> Callable[[str, str], bytes | None]:
    """Reads objects as a user does; None for one that is not there."""
    service = StorageTokenService(stack.settings, stack.clients)
    s3 = stack.s3(await service.credentials(username, stack.mint(username)))

    def read(bucket: str, key: str) -> bytes | None:
        try:
            return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        except ClientError:
            return None

    return read


async def test_bucket_and_scratch(stack: Stack, rig: MountRig) -> None:
    s3, own, shared = stack.clients.s3(), rig.request.bucket, rig.request.scratch_bucket
    s3.put_object(Bucket=shared, Key="bruno/his.txt", Body=b"for all to read")
    status = await rig.client.mount(rig.request)
    assert (status.state, status.fault) == ("mounted", None)

    assert {path.name for path in rig.scratch.iterdir()} >= {"alice", "bruno"}
    assert (rig.scratch / "bruno/his.txt").read_text() == "for all to read"
    with pytest.raises(OSError, match="Read-only"):
        (rig.scratch / "bruno/mine.txt").write_text("x")
    with pytest.raises(OSError, match="Read-only"):
        (rig.scratch / "top.txt").write_text("x")
    (rig.scratch / "alice/mine.txt").write_text("shared")
    (rig.bucket / "deep/er").mkdir(parents=True)
    (rig.bucket / "deep/er/file.txt").write_text("own")
    (rig.bucket / "link").symlink_to("deep/er/file.txt")

    assert (await rig.client.drain("alice", 30)).uploads_pending == 0
    alice, bruno = await reader(stack, "alice"), await reader(stack, "bruno")
    assert alice(own, "deep/er/file.txt") == b"own"
    assert bruno(own, "deep/er/file.txt") is None
    assert alice(shared, "alice/mine.txt") == bruno(shared, "alice/mine.txt") == b"shared"
    s3.put_object(Bucket=own, Key="from-s3.txt", Body=b"written elsewhere")
    await eventually(lambda: (rig.bucket / "from-s3.txt").is_file(), what="the new object")
    assert (await rig.client.unmount("alice")).state == "absent"


async def test_only_the_user_reads_it(rig: MountRig) -> None:
    await rig.client.mount(rig.request)
    assert _listed_by(UID, rig.bucket)
    assert not _listed_by(UID + 65536, rig.bucket)
    assert not _listed_by(UID + 65536, rig.scratch)
    assert not _listed_by(UID + 65536, rig.workarea)


async def test_anothers_bucket_is_refused_and_not_mounted(stack: Stack, rig: MountRig) -> None:
    theirs = replace(rig.request, bucket=bucket_name(stack.settings, "bruno"))
    status = await rig.client.mount(theirs)
    assert status.state == "failed"
    assert "refuses access" in (status.fault or "")
    assert MountTable.read().at(rig.bucket) is None


async def test_no_secret_is_written_down(stack: Stack, rig: MountRig) -> None:
    handed: list[dict[str, Any]] = []
    give = rig.credentials

    async def remember(username: str) -> dict[str, Any]:
        handed.append(await give(username))
        return handed[-1]

    rig.credentials = remember
    await rig.client.mount(rig.request)
    (rig.bucket / "x").write_text("1")
    await rig.client.drain("alice", 20)
    secrets = [item[key].encode() for item in handed for key in ("SecretAccessKey", "Token")]
    assert secrets
    process = Path(f"/proc/{rig.rclone_pid}")
    texts = {str(path): path.read_bytes() for path in _files(rig.root / "state/mount-plane")}
    texts["arguments"] = (process / "cmdline").read_bytes()
    texts["environment"] = (process / "environ").read_bytes()
    texts["log"] = rig.log.encode()
    found = [name for name, text in texts.items() if any(one in text for one in secrets)]
    assert found == []


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def _listed_by(uid: int, path: Path) -> bool:
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "ls", path]
    return subprocess.run(command, capture_output=True).returncode == 0
