from __future__ import annotations

import asyncio
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import pytest
from traitlets.config import Config

from taccuino.engines import ServerIds
from taccuino.hub.storage import (
    HubStorage,
    StorageBackend,
    patience,
    server_endpoint,
    storage_environment,
    storage_fault,
)
from taccuino.iam import AccessToken, GrantFailure
from taccuino.settings import Settings
from taccuino.storage import StorageError
from taccuino.storage.groups import GroupMount
from taccuino.storage.mount_client import MountPlaneError, MountStatus


@pytest.mark.parametrize(
    ("endpoint", "server_side", "seen"),
    [
        ("http://localhost:8002", None, "http://taccuino-edge:8002"),
        ("http://127.0.0.1:8002/", None, "http://taccuino-edge:8002/"),
        ("https://rgw.example.org", None, "https://rgw.example.org"),
        ("http://localhost:8002", "http://s3:80", "http://s3:80"),
    ],
)
def test_a_loopback_endpoint_is_reached_through_the_edge(endpoint, server_side, seen):
    storage = {"endpoint": endpoint, "server_endpoint": server_side}
    settings = Settings.parse({"storage": storage})
    assert server_endpoint(settings) == seen
    assert storage_environment(settings, "ana")["AWS_ENDPOINT_URL_STS"] == seen


def test_the_environment_names_what_is_the_users_own():
    environment = storage_environment(Settings(), "ana")
    assert environment["TACCUINO_BUCKET"] == "ana"
    assert environment["TACCUINO_SCRATCH_BUCKET"] == "scratch"
    assert environment["TACCUINO_ROLE_ARN"].endswith("taccuino-ana")
    assert not any("KEY" in name or "TOKEN" in name for name in environment)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (GrantFailure("expired_grant"), "Your login has expired"),
        (GrantFailure("usage_policy"), "usage policy"),
        (GrantFailure("suspended"), "suspended"),
        (StorageError("x", reason="unreachable"), "the object storage can't be reached"),
        (StorageError("x", reason="issuer"), "the identity service can't be reached"),
        (StorageError("x", reason="conflict"), "belongs to somebody else"),
        (StorageError("secret detail", reason="denied"), "refuses your account"),
        (StorageError("secret detail"), "answered with an error"),
    ],
)
def test_each_fault_has_its_sentence(error, said):
    sentence = storage_fault(error)
    assert said in sentence
    assert "secret detail" not in sentence


class StandInPlane:
    def __init__(self, **status):
        self.status = status
        self.calls = []

    async def mount(self, request, *, workarea_only=False, ahead=False):
        self.calls.append((request, workarea_only))
        if "error" in self.status:
            raise self.status["error"]
        paths = {"workarea": Path("/m/ana/w"), "cloud_storage": Path("/m/ana/c")}
        known = {"state": "mounted", "workarea_usable": True, **self.status}
        return MountStatus(request.slug, **paths, **known)

    async def drain(self, slug, timeout, report):
        self.calls.append(("drain", slug, timeout))

    async def unmount(self, slug, *, drain):
        self.calls.append(("unmount", slug, drain))


class StandInBackend:
    snapshots = None

    def __init__(self, prepared=None, **status):
        self.settings = Settings()
        self.prepared = prepared
        self.prepared_before = False
        self.mount_plane = StandInPlane(**status)

    def is_prepared(self, user):
        return self.prepared_before

    async def prepare(self, user):
        if self.prepared:
            raise self.prepared


async def attach(backend):
    return await HubStorage(backend, StandInUser(None)).attach(
        "ana", ServerIds(3001000, 3067536), lambda _: None, "waiting"
    )


async def test_the_workarea_and_the_cloud_storage_are_bound():
    backend = StandInBackend()
    attachment = await attach(backend)
    assert [(str(bind.source), bind.target) for bind in attachment.binds] == [
        ("/m/ana/w", "/workarea"),
        ("/m/ana/c", "/workarea/cloud_storage"),
    ]
    assert attachment.faults == ()
    ((request, workarea_only),) = backend.mount_plane.calls
    assert workarea_only
    assert (request.uid, request.bucket, request.workarea_quota) == (3001000, "ana", "10G")
    assert (request.gid, request.owner, request.place) == (3001000, 3067536, "waiting")


@pytest.mark.parametrize(
    ("prepared", "status", "faults"),
    [
        (None, {"fault": "scratch is missing."}, ["scratch is missing."]),
        (None, {"state": "failed", "fault": "It is away."}, ["It is away."]),
        # It was prepared once, and is mounted: nothing is missing.
        (StorageError("x", reason="unreachable"), {}, []),
        (
            GrantFailure("expired_grant"),
            {"state": "failed", "fault": "no credentials"},
            [
                "Your cloud_storage is not connected. "
                + GrantFailure("expired_grant").user_message
            ],
        ),
    ],
)
async def test_what_fails_is_said_once_and_with_its_cause(prepared, status, faults):
    attachment = await attach(StandInBackend(prepared, **status))
    assert list(await attachment.completion()) == faults


async def test_the_bucket_is_made_before_it_is_mounted():
    backend = StandInBackend()
    assert await (await attach(backend)).completion() == ()
    assert [only for _, only in backend.mount_plane.calls] == [True, False]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"error": MountPlaneError("socket gone")}, "does not answer"),
        ({"state": "failed", "workarea_usable": False, "fault": "The disk is full."}, "full"),
    ],
)
async def test_without_a_workarea_there_is_no_start(status, said):
    with pytest.raises(StorageError, match=said):
        await attach(StandInBackend(**status))


async def test_uploads_are_waited_for_before_the_mount_goes():
    backend = StandInBackend()
    await HubStorage(backend, StandInUser(None)).detach("ana", lambda _: None)
    assert backend.mount_plane.calls == [("drain", "ana", 60.0), ("unmount", "ana", False)]


class StandInUser:
    name = "ana"

    def __init__(self, auth_state, *groups):
        self.groups = [SimpleNamespace(name=group) for group in groups]
        self.auth_state = auth_state
        self.authenticator = SimpleNamespace(user_auth_state_key="oauth_user", broker=self)

    async def access_token(self, user, *, audience):
        return AccessToken("tok", "i", 0.0, "subject-of-ana")

    async def get_auth_state(self):
        return self.auth_state


class StandInProvisioner:
    administers = True

    def __init__(self):
        self.made = []
        self.error = None
        self.waiting = asyncio.Event()
        self.waiting.set()

    async def ensure_user(self, *owner):
        await self.waiting.wait()
        if self.error:
            raise self.error
        self.made.append(owner)


@pytest.fixture
def backend(monkeypatch):
    async def credentials(self, user):
        return f"credentials of {user.name}"

    monkeypatch.setattr(StorageBackend, "_credentials", credentials)
    backend = StorageBackend(Settings())
    backend.provisioner = StandInProvisioner()
    return backend


@pytest.mark.parametrize(
    ("auth_state", "email"),
    [
        ({"oauth_user": {"email": "ana@example.org"}}, "ana@example.org"),
        ({"oauth_user": {"email": None}}, None),
        ({"oauth_user": {}}, None),
        (None, None),
    ],
)
async def test_the_bucket_is_made_for_an_account_and_its_address(backend, auth_state, email):
    await backend.prepare(StandInUser(auth_state))
    assert backend.provisioner.made == [("ana", "subject-of-ana", email, frozenset())]


async def test_what_could_not_be_prepared_is_when_credentials_are_asked_for(backend):
    ana, provisioner = StandInUser(None), backend.provisioner
    provisioner.error = StorageError("x", reason="unreachable")
    for ask in (backend.prepare, backend.credentials):
        with pytest.raises(StorageError):
            await ask(ana)
    provisioner.error = None
    assert await backend.credentials(ana) == "credentials of ana"
    assert len(provisioner.made) == 1
    await backend.credentials(ana)
    assert len(provisioner.made) == 1, "it is prepared by now"


async def test_nothing_is_kept_of_a_user_who_was_deleted(backend):
    """The name may be given to somebody else, whom the role does not belong to."""
    ana = StandInUser(None)
    await backend.credentials(ana)
    assert backend.is_prepared(ana)
    backend.forget("ana")
    assert not backend.is_prepared(ana)


def test_a_configured_backend_stays_the_same():
    c = Config()
    c.JupyterHub.tornado_settings = {"backend": StorageBackend(Settings())}
    assert deepcopy(c).JupyterHub.tornado_settings == c.JupyterHub.tornado_settings


async def test_all_who_ask_wait_for_one_preparation_which_outlives_them(backend):
    ana, provisioner = StandInUser(None), backend.provisioner
    provisioner.waiting.clear()
    with pytest.raises(StorageError) as caught:
        async with patience(0.01):
            await backend.prepare(ana)
    assert caught.value.reason == "unreachable"
    again = asyncio.create_task(backend.prepare(ana))
    await asyncio.sleep(0)
    provisioner.waiting.set()
    await again
    assert len(provisioner.made) == 1


def test_an_access_token_is_not_shown():
    assert "tok" not in repr(AccessToken("tok", "i", 0.0, "s"))


async def test_the_role_follows_the_groups(backend):
    made = backend.provisioner.made
    for groups, times in ((["lab"], 1), (["lab"], 1), (["lab", "it"], 2), ([], 3)):
        user = StandInUser(None, *groups)
        assert await backend.credentials(user) == "credentials of ana"
        assert len(made) == times
        assert made[-1][-1] == frozenset(groups)


async def test_groups_that_changed_while_the_storage_is_away_wait(backend):
    await backend.credentials(StandInUser(None, "lab"))
    backend.provisioner.error = StorageError("x", reason="unreachable")
    assert await backend.credentials(StandInUser(None)) == "credentials of ana"
    backend.provisioner.error = None
    await backend.credentials(StandInUser(None))
    assert backend.provisioner.made[-1][-1] == frozenset()


async def test_a_bucket_that_was_prepared_is_mounted_at_once():
    backend = StandInBackend(StorageError("it is not asked for", reason="unreachable"))
    backend.prepared_before = True
    attachment = await attach(backend)
    assert await attachment.completion() == ()


async def test_a_bucket_that_was_prepared_and_is_gone_is_prepared_anew():
    backend = StandInBackend(GrantFailure("suspended"), state="failed", fault="no bucket")
    backend.prepared_before = True
    (fault,) = await (await attach(backend)).completion()
    assert GrantFailure("suspended").user_message in fault
    assert len(backend.mount_plane.calls) == 3


async def test_groups_buckets_are_mounted(backend):
    entry = {"group": "/a/b", "bucket": "b-shared", "read_only": True}
    settings = {"storage": {"group_buckets": [entry]}, "snapshots": {"enabled": False}}
    backend.settings = Settings.parse(settings)
    backend.mount_plane = StandInPlane()
    user = StandInUser(None, "a/b", "other")
    await HubStorage(backend, user).attach("ana", ServerIds(3001000, 3001000), lambda _: None)
    ((request, _),) = backend.mount_plane.calls
    assert request.groups == (GroupMount("a-b", "b-shared", True),)
