"""Two nodes of one user over one versioned bucket of a real RadosGW."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from support.mounts import MountRig, eventually, mount_rig
from taccuino.settings import Settings
from taccuino.storage.clients import StorageClients

BUCKET = "alice-bucket"


@dataclass
class Bucket:
    """The bucket as another S3 client sees it."""

    s3: Any
    name: str = BUCKET

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=content)

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()

    def delete(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def contents(self, prefix: str = "") -> dict[str, bytes]:
        return {key: self.get(key) for key in self.keys(prefix)}


def make_bucket(clients: StorageClients, *, versioned: bool = True) -> Bucket:
    """Alice's bucket and scratch, made by the administrator."""
    s3 = clients.s3()
    for name in (BUCKET, "scratch"):
        with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
            s3.create_bucket(Bucket=name)
    status = "Enabled" if versioned else "Suspended"
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": status})
    return Bucket(s3)


@contextlib.asynccontextmanager
async def node(settings: Settings, site: str, **plane: Any) -> AsyncIterator[MountRig]:
    """A node of one's own at ``site`` with alice's bucket mounted."""
    assert settings.storage.admin_credentials_file
    keys = json.loads(settings.storage.admin_credentials_file.read_text())

    async def credentials(_: str) -> dict[str, Any]:
        return {
            "AccessKeyId": keys["access_key"],
            "SecretAccessKey": keys["secret_key"],
            "Token": "",
            "Expiration": "2099-01-01T00:00:00Z",
        }

    async with mount_rig(endpoint=settings.storage.endpoint, site=site, **plane) as rig:
        rig.credentials = credentials
        status = await rig.client.mount(rig.request)
        assert (status.state, status.fault) == ("mounted", None), rig.log
        yield rig


async def uploaded(*nodes: MountRig) -> None:
    """Wait until everything that was saved is in the bucket."""
    for rig in nodes:
        await eventually(rig.drained, 60, "the uploads")
        await rig.client.drain("alice", 60)


def notes(rig: MountRig) -> dict[str, Any]:
    """What the node has written down of conflicts."""
    file = rig.root / "state/mount-plane/users/alice/conflicts.json"
    return json.loads(file.read_text()) if file.exists() else {}


async def checked(*nodes: MountRig) -> list[dict[str, Any]]:
    """Wait until all uploads were compared with the versions; the conflict copies made."""
    await uploaded(*nodes)
    found: list[dict[str, Any]] = []
    for rig in nodes:

        def done(rig: MountRig = rig) -> bool:
            known = notes(rig)
            log = rig.root / "state/mount-plane/users/alice/rclone.log"
            if not known:
                return not log.exists()
            left = log.stat().st_size - known["position"]["offset"]
            return not known["checks"] and not known["pending"] and left < 4096

        await eventually(done, 60, "the check for conflicts")
        found += notes(rig)["found"]
    return found
