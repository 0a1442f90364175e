"""Quotas, versions, groups' buckets and scratch on real RadosGW, and what users must not do."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from support.storage_stack import Stack, wait_for
from taccuino.local.ceph import ceph_services
from taccuino.settings import GroupBucketSettings
from taccuino.storage import BucketProvisioner, StorageError, StorageTokenService

pytestmark = pytest.mark.integration

MIB = 1 << 20
Person = Callable[..., Awaitable[Any]]


def provisioner(stack: Stack, **storage: Any) -> BucketProvisioner:
    changed = stack.settings.storage.model_copy(update=storage)
    settings = stack.settings.model_copy(update={"storage": changed})
    return BucketProvisioner(settings, stack.clients)


@pytest.fixture
def person(stack: Stack) -> Person:
    """A user's S3 client, with the storage settings and groups that a test names."""

    async def make(username: str, *groups: str, **storage: Any) -> Any:
        await provisioner(stack, **storage).ensure_user(username, username, None, groups)
        service = StorageTokenService(stack.settings, stack.clients)
        return stack.s3(await service.credentials(username, stack.mint(username)))

    return make


def code(call: Callable[[], object]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


def radosgw_admin(stack: Stack, *arguments: str) -> str:
    conf = stack.settings.state_dir / "ceph/ceph.conf"
    command = ["radosgw-admin", "-n", "client.rgw", "-c", str(conf), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


async def test_over_quota_is_refused_at_once_and_usage_is_told(
    stack: Stack, person: Person
) -> None:
    quota = {"quota": "8M"}
    s3 = await person("quinn", **quota)
    for number in range(8):
        s3.put_object(Bucket="quinn", Key=f"{number}", Body=b"x" * MIB)
    assert code(lambda: s3.put_object(Bucket="quinn", Key="9", Body=b"x")) == "QuotaExceeded"
    told = await provisioner(stack, **quota).usage("quinn")
    assert told is not None
    assert (told.bytes, told.objects, told.quota_bytes) == (8 * MIB, 8, 8 * MIB)

    # An earlier version counts until it is deleted, which the user may do.
    s3.delete_object(Bucket="quinn", Key="0")
    assert code(lambda: s3.put_object(Bucket="quinn", Key="9", Body=b"x")) == "QuotaExceeded"
    version = s3.list_object_versions(Bucket="quinn", Prefix="0")["Versions"][0]
    s3.delete_object(Bucket="quinn", Key="0", VersionId=version["VersionId"])
    s3.put_object(Bucket="quinn", Key="9", Body=b"x" * MIB)


async def test_a_quota_follows_the_settings_unless_it_was_set_by_hand(stack: Stack) -> None:
    async def quota(setting: str | None) -> int | None:
        made = provisioner(stack, quota=setting)
        await made.ensure_user("rita", "rita")
        told = await made.usage("rita")
        assert told is not None
        return told.quota_bytes

    assert await quota("10M") == 10 * MIB
    assert await quota("20M") == 20 * MIB
    assert await quota(None) is None
    assert await quota("5M") == 5 * MIB
    by_hand = (
        "quota",
        "set",
        "--quota-scope=bucket",
        "--bucket=rita",
        f"--max-size={64 * MIB}",
    )
    radosgw_admin(stack, *by_hand)
    assert await quota("5M") == 64 * MIB
    assert await quota("6M") == 64 * MIB


async def test_buckets_keep_versions_and_operators_keep_their_rules(
    stack: Stack, person: Person
) -> None:
    s3 = await person("vera")
    admin = stack.clients.s3()
    for bucket in ("vera", stack.settings.storage.scratch_bucket):
        assert admin.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    for body in (b"1", b"2"):
        s3.put_object(Bucket="vera", Key="a", Body=body)
    assert len(s3.list_object_versions(Bucket="vera")["Versions"]) == 2

    rules: Any = admin.get_bucket_lifecycle_configuration(Bucket="vera")["Rules"]
    own = {
        "ID": "theirs",
        "Status": "Enabled",
        "Filter": {"Prefix": "tmp/"},
        "Expiration": {"Days": 3},
    }
    # RadosGW 16 answers in the form before the present one.
    mended = [{"Filter": {"Prefix": rule.pop("Prefix", "")}, **rule} for rule in rules]
    admin.put_bucket_lifecycle_configuration(
        Bucket="vera", LifecycleConfiguration={"Rules": [*mended, own]}
    )
    await person("vera", keep_versions_days=0)
    assert admin.get_bucket_versioning(Bucket="vera")["Status"] == "Suspended"
    await person("vera", keep_versions_days=9)
    assert admin.get_bucket_versioning(Bucket="vera")["Status"] == "Enabled"
    rules = admin.get_bucket_lifecycle_configuration(Bucket="vera")["Rules"]
    by_id = {rule["ID"]: rule for rule in rules}
    assert by_id["theirs"]["Expiration"] == {"Days": 3}
    ours = by_id["taccuino-versions"]
    assert ours["NoncurrentVersionExpiration"]["NoncurrentDays"] == 9


async def test_earlier_versions_end(stack: Stack, person: Person) -> None:
    """With a day of RadosGW's lifecycle cut to 15 s.

    Each "day" begins with the first bucket of a shard, so all must have had their turn by then
    (``RGWLC::process``). By one worker with one thread: several workers wait 5 s for each other
    at each shard, and each thread makes a bucket take half a second longer. A shard whose
    gateway was killed stays locked for 90 s (``rgw_lc_lock_max_time``).
    """
    gateway = next(item for item in ceph_services(stack.settings) if item.name == "radosgw")
    options = ("lc_debug_interval=15", "lc_max_worker=1", "lc_max_wp_worker=1")
    command = (*gateway.command, *(f"--rgw_{option}" for option in options))
    hasty = dataclasses.replace(gateway, command=command)
    s3 = await person("lena", keep_versions_days=1)
    for body in (b"1", b"2", b"3"):
        s3.put_object(Bucket="lena", Key="a", Body=body)
    s3.put_object(Bucket="lena", Key="gone", Body=b"x")
    s3.delete_object(Bucket="lena", Key="gone")
    stack.stop(("radosgw",))
    await asyncio.to_thread(stack.start, hasty)
    try:

        def ended() -> bool:
            found = s3.list_object_versions(Bucket="lena")
            keys = [entry["Key"] for entry in found.get("Versions", [])]
            return keys == ["a"] and not found.get("DeleteMarkers")

        wait_for(ended, 180, "the end of earlier versions")
        assert s3.get_object(Bucket="lena", Key="a")["Body"].read() == b"3"
    finally:
        stack.stop(("radosgw",))
        await asyncio.to_thread(stack.start, gateway)


LAB = GroupBucketSettings(group="/lab", bucket="lab-data", quota="100M")
READ = GroupBucketSettings(group="lab-readers", bucket="lab-data", read_only=True, quota="100M")


async def test_groups_share_a_bucket(stack: Stack, person: Person) -> None:
    mapped = {"group_buckets": [LAB, READ]}
    writer = await person("wanda", "lab", **mapped)
    reader = await person("rolf", "lab-readers", **mapped)
    other = await person("otto", "elsewhere", **mapped)
    writer.put_object(Bucket="lab-data", Key="d/x", Body=b"1")
    assert reader.get_object(Bucket="lab-data", Key="d/x")["Body"].read() == b"1"
    assert reader.list_objects_v2(Bucket="lab-data")["KeyCount"] == 1
    for denied in (
        lambda: reader.put_object(Bucket="lab-data", Key="d/x", Body=b"2"),
        lambda: reader.delete_object(Bucket="lab-data", Key="d/x"),
        lambda: other.get_object(Bucket="lab-data", Key="d/x"),
        lambda: other.list_objects_v2(Bucket="lab-data"),
        lambda: other.put_object(Bucket="lab-data", Key="y", Body=b"2"),
    ):
        assert code(denied) == "AccessDenied"
    both = await person("bea", "lab-readers", "lab", **mapped)
    both.put_object(Bucket="lab-data", Key="d/y", Body=b"2")
    told = await provisioner(stack, **mapped).usage("lab-data")
    assert told is not None
    assert told.quota_bytes == 100 * MIB

    # Who leaves the group is out at once, with the credentials that they have, also of what
    # they wrote.
    await person("wanda", **mapped)
    assert code(lambda: writer.get_object(Bucket="lab-data", Key="d/x")) == "AccessDenied"
    assert code(lambda: writer.put_object(Bucket="lab-data", Key="d/x", Body=b"")) == (
        "AccessDenied"
    )


async def test_a_name_opens_nobodys_bucket(stack: Stack, person: Person) -> None:
    entry = GroupBucketSettings(group="lab", bucket="trap")
    mapped = {"group_buckets": [entry]}
    member = await person("mia", "lab", **mapped)
    member.put_object(Bucket="trap", Key="secret", Body=b"1")
    # Called as the bucket; and after the operators have forgotten that it is a group's.
    hostile = await person("trap", **mapped)
    assert code(lambda: hostile.get_object(Bucket="trap", Key="secret")) == "AccessDenied"
    with pytest.raises(StorageError) as caught:
        await person("trap")
    assert caught.value.reason == "conflict"

    # The other way round: a group's entry that names a user's bucket opens it to nobody, and
    # the member's own storage works.
    victim = await person("vito")
    victim.put_object(Bucket="vito", Key="mine", Body=b"1")
    greedy = {"group_buckets": [GroupBucketSettings(group="lab", bucket="vito")]}
    member = await person("mia", "lab", **greedy)
    assert code(lambda: member.get_object(Bucket="vito", Key="mine")) == "AccessDenied"
    member.put_object(Bucket="mia", Key="works", Body=b"1")

    # A bucket of files that nobody owns is not taken by who is called as it is.
    admin = stack.clients.s3()
    admin.create_bucket(Bucket="archive")
    admin.put_object(Bucket="archive", Key="old", Body=b"1")
    with pytest.raises(StorageError, match="no owner"):
        await person("archive")


SCRATCH = "scratch"


async def test_scratch_is_written_under_ones_own_name_only(person: Person) -> None:
    ann, anna = await person("ann"), await person("anna")
    star = await person("*")
    made = ann.put_object(Bucket=SCRATCH, Key="ann/x", Body=b"1")
    assert anna.get_object(Bucket=SCRATCH, Key="ann/x")["Body"].read() == b"1"
    source = {"Bucket": SCRATCH, "Key": "ann/x"}
    anna.copy_object(Bucket=SCRATCH, Key="anna/copy", CopySource=source)
    for s3, foreign in (
        (anna, "ann/"),
        (ann, "anna/"),
        (star, "ann/"),
        (ann, "ann"),
        (ann, ""),
    ):
        key = f"{foreign}new"
        for denied in (
            lambda s3=s3, key=key: s3.put_object(Bucket=SCRATCH, Key=key, Body=b"2"),
            lambda s3=s3, key=key: s3.copy_object(Bucket=SCRATCH, Key=key, CopySource=source),
            lambda s3=s3, key=key: s3.create_multipart_upload(Bucket=SCRATCH, Key=key),
        ):
            assert code(denied) == "AccessDenied", foreign
    for denied in (
        lambda: anna.delete_object(Bucket=SCRATCH, Key="ann/x"),
        lambda: anna.delete_object(Bucket=SCRATCH, Key="ann/x", VersionId=made["VersionId"]),
        lambda: star.delete_object(Bucket=SCRATCH, Key="ann/x", VersionId=made["VersionId"]),
    ):
        assert code(denied) == "AccessDenied"
    many = {"Objects": [{"Key": "ann/x", "VersionId": made["VersionId"]}]}
    refused = code(lambda: anna.delete_objects(Bucket=SCRATCH, Delete=many))
    assert refused == "AccessDenied"
    assert ann.get_object(Bucket=SCRATCH, Key="ann/x")["Body"].read() == b"1"
    upload = ann.create_multipart_upload(Bucket=SCRATCH, Key="ann/big")["UploadId"]
    where = {"Bucket": SCRATCH, "Key": "ann/big", "UploadId": upload}
    assert code(lambda: anna.upload_part(**where, PartNumber=1, Body=b"x")) == "AccessDenied"
    assert code(lambda: anna.abort_multipart_upload(**where)) == "AccessDenied"
    part = {"PartNumber": 1, "ETag": ann.upload_part(**where, PartNumber=1, Body=b"x")["ETag"]}
    ann.complete_multipart_upload(**where, MultipartUpload={"Parts": [part]})
    ann.delete_object(Bucket=SCRATCH, Key="ann/x", VersionId=made["VersionId"])


@pytest.mark.parametrize("bucket", ["conny", SCRATCH, "lab-data"])
async def test_no_user_changes_a_buckets_configuration(
    stack: Stack, person: Person, bucket: str
) -> None:
    s3 = await person("conny", "lab", group_buckets=[LAB, READ])
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    rule = {
        "ID": "all",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "Expiration": {"Days": 1},
    }
    for denied in (
        lambda: s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        lambda: s3.put_bucket_policy(Bucket=bucket, Policy=policy),
        lambda: s3.delete_bucket_policy(Bucket=bucket),
        lambda: s3.put_bucket_acl(Bucket=bucket, ACL="public-read"),
        lambda: s3.put_bucket_lifecycle_configuration(
            Bucket=bucket, LifecycleConfiguration={"Rules": [rule]}
        ),
        lambda: s3.delete_bucket_lifecycle(Bucket=bucket),
        lambda: s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": []}),
        lambda: s3.delete_bucket_tagging(Bucket=bucket),
        lambda: s3.delete_public_access_block(Bucket=bucket),
        lambda: s3.delete_bucket(Bucket=bucket),
    ):
        assert code(denied) == "AccessDenied"
    # An ACL on a copy, which RadosGW 16 lets through, opens nothing.
    key = "conny/open"
    s3.put_object(Bucket=bucket, Key=key, Body=b"1")
    source = {"Bucket": bucket, "Key": key}
    s3.copy_object(Bucket=bucket, Key=f"{key}-copy", CopySource=source, ACL="public-read")
    url = f"{stack.settings.storage.endpoint}/{bucket}/{key}-copy"
    assert (await asyncio.to_thread(requests.get, url, timeout=10)).status_code == 403
    assert code(lambda: s3.put_object_acl(Bucket=bucket, Key=key, ACL="public-read")) == (
        "AccessDenied"
    )


async def test_a_user_who_is_set_up_costs_little(stack: Stack) -> None:
    made = provisioner(stack)
    await made.ensure_user("swift", "swift")
    times = []
    for _ in range(20):
        started = time.perf_counter()
        await made.ensure_user("swift", "swift")
        times.append(time.perf_counter() - started)
    assert sorted(times)[10] < 0.1
