"""The whole chain on the real parts: login, access token, STS, S3; and what must not work."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import signal
import time
from collections.abc import Awaitable, Callable

import pytest
import requests
from botocore.exceptions import ClientError
from joserfc.jwk import OctKey, RSAKey

from support.storage_stack import Stack, free_ports
from taccuino.local.ceph import ceph_services
from taccuino.local.iam import EMBEDDED_ADMIN_GROUP, add_user, iam_service, signing_key
from taccuino.storage import (
    BucketProvisioner,
    CredentialCache,
    Credentials,
    StorageError,
    StorageTokenService,
)
from taccuino.storage.clients import s3_client
from taccuino.storage.policies import policy_text, trust_policy

pytestmark = pytest.mark.integration

Session = Callable[[str], Awaitable[Credentials]]


@pytest.fixture
def session(stack: Stack) -> Session:
    """Credentials of a user who has a bucket and a role."""

    async def make(username: str) -> Credentials:
        await BucketProvisioner(stack.settings, stack.clients).ensure_user(username, username)
        service = StorageTokenService(stack.settings, stack.clients)
        return await service.credentials(username, stack.mint(username))

    return make


def refused(call: Callable[[], object]) -> bool:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def claims(token: str) -> dict:
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_from_login_to_an_object(stack: Stack) -> None:
    grant = stack.login("alice")
    said = claims(grant["access_token"])
    assert (said["iss"], said["aud"], said["sub"]) == (stack.issuer, ["taccuino"], "alice")
    assert grant["expires_in"] == 3600
    assert said["exp"] - said["iat"] == 3600
    assert any("Taccuino" in page for page in grant["pages"])
    assert len(grant["pages"]) == 3, "name, password, consent"

    provisioner = BucketProvisioner(stack.settings, stack.clients)
    await provisioner.ensure_user("alice", "alice", "alice@taccuino.example")
    await provisioner.check()
    service = StorageTokenService(stack.settings, stack.clients)
    credentials = await service.credentials("alice", grant["access_token"])
    s3 = stack.s3(credentials)
    s3.put_object(Bucket="alice", Key="notes/a b.txt", Body=b"hello")
    assert s3.get_object(Bucket="alice", Key="notes/a b.txt")["Body"].read() == b"hello"
    assert s3.list_objects_v2(Bucket="alice")["KeyCount"] == 1

    # Containers call the storage by another name: every Host is a path-style request.
    endpoint = f"http://127.0.0.1:{stack.settings.local.s3_port}"
    storage = stack.settings.storage.model_copy(update={"endpoint": endpoint})
    elsewhere = stack.settings.model_copy(update={"storage": storage})
    keys = (credentials.access_key, credentials.secret_key, credentials.session_token)
    again = s3_client(elsewhere, *keys).get_object(Bucket="alice", Key="notes/a b.txt")
    assert again["ContentLength"] == 5


def test_consent_is_asked_once_and_names_are_the_accounts_own(stack: Stack) -> None:
    stack.login("ada")
    grant = stack.login("ada")
    assert len(grant["pages"]) == 2, "name, password"
    headers = {"Authorization": f"Bearer {grant['access_token']}"}
    user = requests.get(f"{stack.issuer}/oauth/userinfo", headers=headers, timeout=10).json()
    assert user["preferred_username"] == user["sub"] == "ada"
    assert user["groups"] == [EMBEDDED_ADMIN_GROUP]
    assert user["email"] == "ada@taccuino.example"


def test_refresh_tokens_rotate(stack: Stack) -> None:
    grant = stack.login("bruno")
    form = {"grant_type": "refresh_token", "refresh_token": grant["refresh_token"]}
    first = stack.token(**form)
    assert first.status_code == 200, first.text
    assert claims(first.json()["access_token"])["sub"] == "bruno"
    assert stack.token(**form).json()["error"] == "invalid_grant"


def test_a_user_can_be_added_while_it_runs(stack: Stack) -> None:
    add_user(stack.settings, "carla", "a long password", given_name="Carla")
    assert claims(stack.login("carla", "a long password")["access_token"])["sub"] == "carla"


async def test_own_bucket_takes_everything_objects_need(stack: Stack, session: Session) -> None:
    s3 = stack.s3(await session("alice"))
    upload = s3.create_multipart_upload(Bucket="alice", Key="big")["UploadId"]
    where = {"Bucket": "alice", "Key": "big", "UploadId": upload}
    parts = []
    for number, size in ((1, 5 << 20), (2, 10)):
        part = s3.upload_part(**where, PartNumber=number, Body=b"x" * size)
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    assert len(s3.list_parts(**where)["Parts"]) == 2
    s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
    s3.copy_object(Bucket="alice", Key="copy", CopySource={"Bucket": "alice", "Key": "big"})
    assert s3.head_object(Bucket="alice", Key="copy")["ContentLength"] == (5 << 20) + 10
    s3.delete_object(Bucket="alice", Key="copy")
    aborted = s3.create_multipart_upload(Bucket="alice", Key="never")["UploadId"]
    s3.abort_multipart_upload(Bucket="alice", Key="never", UploadId=aborted)


async def test_another_users_bucket_is_refused(stack: Stack, session: Session) -> None:
    bruno = stack.s3(await session("bruno"))
    bruno.put_object(Bucket="bruno", Key="mine", Body=b"1")
    alice = stack.s3(await session("alice"))
    assert refused(lambda: alice.get_object(Bucket="bruno", Key="mine"))
    assert refused(lambda: alice.put_object(Bucket="bruno", Key="mine", Body=b"2"))
    assert refused(lambda: alice.delete_object(Bucket="bruno", Key="mine"))
    assert refused(lambda: alice.list_objects_v2(Bucket="bruno"))
    assert refused(
        lambda: alice.copy_object(
            Bucket="alice", Key="stolen", CopySource={"Bucket": "bruno", "Key": "mine"}
        )
    )


async def test_scratch_is_read_by_all_and_written_by_the_owner(
    stack: Stack, session: Session
) -> None:
    alice, bruno = stack.s3(await session("alice")), stack.s3(await session("bruno"))
    alice.put_object(Bucket="scratch", Key="alice/shared", Body=b"for all")
    assert bruno.get_object(Bucket="scratch", Key="alice/shared")["Body"].read() == b"for all"
    keys = {item["Key"] for item in bruno.list_objects_v2(Bucket="scratch")["Contents"]}
    assert {"alice/", "bruno/", "alice/shared"} <= keys
    for key in ("alice/shared", "alice/other", "alicee", "root", "bruno", "brunox/y"):
        assert refused(lambda key=key: bruno.put_object(Bucket="scratch", Key=key, Body=b""))
    assert refused(lambda: bruno.delete_object(Bucket="scratch", Key="alice/shared"))


async def test_a_user_cannot_change_who_may_read(stack: Stack, session: Session) -> None:
    s3 = stack.s3(await session("alice"))
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    assert refused(lambda: s3.put_bucket_policy(Bucket="alice", Policy=policy))
    assert refused(lambda: s3.put_bucket_acl(Bucket="alice", ACL="public-read"))
    assert refused(lambda: s3.delete_bucket(Bucket="alice"))


async def test_a_name_with_wildcards_opens_nothing(stack: Stack, session: Session) -> None:
    hostile = stack.s3(await session("*"))
    assert refused(lambda: hostile.get_object(Bucket="alice", Key="big"))
    assert refused(lambda: hostile.put_object(Bucket="scratch", Key="alice/x", Body=b""))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("another subject", "denied"),
        ("another audience", "denied"),
        ("another issuer", "denied"),
        ("expired", "expired_token"),
        ("another key", "denied"),
        ("the public key as a shared secret", "denied"),
        ("changed after it was signed", "denied"),
        ("no token at all", "denied"),
    ],
)
async def test_bad_tokens_get_no_credentials(
    stack: Stack, session: Session, case: str, reason: str
) -> None:
    await session("alice")
    past = int(time.time()) - 60
    if case == "another subject":
        token = stack.mint("bruno")
    elif case == "another audience":
        token = stack.mint("alice", aud=["another-client"])
    elif case == "another issuer":
        token = stack.mint("alice", iss="http://localhost:1")
    elif case == "expired":
        token = stack.mint("alice", iat=past - 600, exp=past)
    elif case == "another key":
        token = stack.mint("alice", key=RSAKey.generate_key(2048))
    elif case == "the public key as a shared secret":
        certificate = signing_key(stack.settings).certificate.encode()
        token = stack.mint(
            "alice", key=OctKey.import_key(certificate), headers={"alg": "HS256"}
        )
    elif case == "changed after it was signed":
        header, _, signature = stack.mint("bruno").split(".")
        token = ".".join((header, stack.mint("alice").split(".")[1], signature))
    else:
        token = "none"
    with pytest.raises(StorageError) as caught:
        await StorageTokenService(stack.settings, stack.clients).credentials("alice", token)
    assert caught.value.reason == reason, caught.value
    assert token not in str(caught.value) or token == "none"


async def test_provisioning_mends_and_refuses(stack: Stack) -> None:
    provisioner = BucketProvisioner(stack.settings, stack.clients)
    await provisioner.ensure_user("dora", "dora")
    iam = provisioner._clients.iam()
    wide = '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}'
    iam.put_role_policy(RoleName="taccuino-dora", PolicyName="taccuino", PolicyDocument=wide)
    await provisioner.ensure_user("dora", "dora")
    now = iam.get_role_policy(RoleName="taccuino-dora", PolicyName="taccuino")
    assert len(now["PolicyDocument"]["Statement"]) == 3
    with pytest.raises(StorageError) as caught:
        await provisioner.ensure_user("dora", "another person")
    assert caught.value.reason == "conflict"
    await StorageTokenService(stack.settings, stack.clients).credentials(
        "dora", stack.mint("dora")
    )


async def test_sessions_last_as_long_as_the_settings_say(
    stack: Stack, session: Session
) -> None:
    await session("alice")
    storage = stack.settings.storage.model_copy(update={"session_seconds": 43200})
    settings = stack.settings.model_copy(update={"storage": storage})
    made = await StorageTokenService(settings).credentials("alice", stack.mint("alice"))
    left = (made.expires_at - dt.datetime.now(dt.UTC)).total_seconds()
    assert 43000 < left <= 43200


async def test_without_administrator_keys_users_make_their_own_bucket(stack: Stack) -> None:
    """As at a site whose storage others run, with one role for all users."""
    arn = "arn:aws:iam:::role/IAMaccess"
    iam = stack.clients.iam()
    trust = trust_policy(stack.issuer, "erika", ["taccuino"])
    iam.create_role(RoleName="IAMaccess", AssumeRolePolicyDocument=policy_text(trust))
    allowed = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::erika*"]}
    policy = policy_text({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName="IAMaccess", PolicyName="p", PolicyDocument=policy)
    storage = stack.settings.storage.model_copy(
        update={"admin_credentials_file": None, "role_arn": arn}
    )
    settings = stack.settings.model_copy(update={"storage": storage})
    provisioner = BucketProvisioner(settings)
    assert not provisioner.administers
    await provisioner.check()
    await provisioner.ensure_user("erika", "erika")  # nothing that it could do
    credentials = await StorageTokenService(settings).credentials("erika", stack.mint("erika"))
    for _ in range(2):
        await provisioner.ensure_own_bucket("erika", credentials)
    stack.s3(credentials).put_object(Bucket="erika", Key="x", Body=b"1")
    with pytest.raises(StorageError) as caught:
        await provisioner.ensure_own_bucket("frieda", credentials)
    assert caught.value.reason == "denied"


async def test_a_changed_provider_is_mended(stack: Stack, session: Session) -> None:
    provisioner = BucketProvisioner(stack.settings, stack.clients)
    iam = provisioner._clients.iam()
    arn = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"][0]["Arn"]
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    iam.create_open_id_connect_provider(
        Url=stack.issuer, ThumbprintList=["00" * 20], ClientIDList=["another-client"]
    )
    with pytest.raises(StorageError):
        await StorageTokenService(stack.settings, stack.clients).credentials(
            "alice", stack.mint("alice")
        )
    assert (await session("alice")).session_token
    there = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert there["ThumbprintList"] == [signing_key(stack.settings).thumbprint]
    assert there["ClientIDList"] == ["another-client", "taccuino"]


async def test_one_exchange_serves_all_who_ask(stack: Stack, session: Session) -> None:
    await session("alice")
    cache = CredentialCache(StorageTokenService(stack.settings, stack.clients))
    asked = []

    async def token() -> str:
        asked.append(1)
        return stack.mint("alice")

    first = await cache.get("alice", token)
    assert await cache.get("alice", token) is first
    assert len(asked) == 1


async def test_nothing_is_lost_when_all_of_ceph_is_killed(
    stack: Stack, session: Session
) -> None:
    s3 = stack.s3(await session("alice"))
    s3.put_object(Bucket="alice", Key="kept", Body=b"still here")
    stack.stop(("radosgw", "ceph-osd", "ceph-mon"), signal.SIGKILL)
    with pytest.raises(StorageError) as caught:
        await BucketProvisioner(stack.settings, stack.clients).check()
    assert caught.value.reason == "unreachable"

    stack.settings.local.ceph_mon_port = free_ports(1)[0]  # and moves to another port
    await asyncio.to_thread(stack.start_ceph)
    assert s3.get_object(Bucket="alice", Key="kept")["Body"].read() == b"still here"
    for service in ceph_services(stack.settings):
        service.prepare()  # as each `up` does while it runs
    assert (await session("alice")).access_key
    # The first write to roles waits for what is left of the killed RadosGW (30 s by default).
    begun = time.monotonic()
    assert (await session("newcomer")).access_key
    assert time.monotonic() - begun < 15


def test_the_iam_keeps_its_accounts_over_a_restart(stack: Stack) -> None:
    stack.stop(("iam",))
    stack.start(iam_service(stack.settings))
    assert len(stack.login("alice")["pages"]) == 2, "the consent of before counts"
