"""The mount plane's API, as its callers see it: requests, statuses and the client.

The daemon (`taccuino.storage.mount_plane`) and its callers share these types, so that the
JSON between them is written down once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import aiohttp

from taccuino.naming import slug as slug_of
from taccuino.settings import Settings, parse_size

from .errors import StorageError
from .groups import GroupMount
from .names import directory_name, scratch_prefix

__all__ = [
    "PLACES",
    "GroupMount",
    "MountPlaneClient",
    "MountPlaneError",
    "MountRequest",
    "MountRequestError",
    "MountState",
    "MountStatus",
    "check_bucket",
]

PLACES = ".places"
"""In ``mount_plane.directory``: where servers that wait for their user look."""

MountState = Literal["mounted", "draining", "failed", "absent"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}")
_PLACE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_LOWEST_UID = 1000
_STUCK_SECONDS = 10.0


class MountPlaneError(StorageError):
    """The mount plane could not be reached, or refused a call.

    ``status`` and ``said`` are what it answered, if it did.
    """

    status: int | None = None
    said: str = ""


class MountRequestError(MountPlaneError):
    """A mount request that can't be served as it is; the message names the value."""


def check_bucket(key: str, name: object) -> None:
    """Refuse what is no name of a bucket.

    Raises
    ------
    MountRequestError
        It says what ``key`` holds.
    """
    if not isinstance(name, str) or not _BUCKET.fullmatch(name):
        raise MountRequestError(f"{key} {name!r}: it is no name of a bucket")


@dataclass(frozen=True)
class MountRequest:
    """What one user's servers need on this node.

    ``uid`` and ``gid`` are the host ids of the servers' processes; ``owner`` is whom the files
    on the node belong to, by default the same. ``place`` is where a server that waits for its
    user looks: the name of a directory below `PLACES`. ``workarea_quota`` is a size such as
    ``"10G"``, or None for a plain directory. ``groups`` are the buckets of the user's groups.
    """

    username: str
    slug: str
    uid: int
    gid: int
    bucket: str
    scratch_bucket: str
    workarea_quota: str | int | None = None
    groups: tuple[GroupMount, ...] = ()
    owner: int = 0
    place: str | None = None

    def __post_init__(self) -> None:
        if not self.owner:
            object.__setattr__(self, "owner", self.uid)
        self._check_user()
        for key, bucket in (("bucket", self.bucket), ("scratch_bucket", self.scratch_bucket)):
            check_bucket(key, bucket)
        self._check_groups()
        if self.workarea_quota is not None:
            try:
                parse_size(self.workarea_quota)
            except ValueError as error:
                raise MountRequestError(f"workarea_quota: {error}") from None

    def _check_user(self) -> None:
        if not self.username or "/" in self.username or "\0" in self.username:
            raise MountRequestError(f"username {self.username!r}: it names no user")
        if self.slug != slug_of(self.username):
            raise MountRequestError(
                f"slug {self.slug!r}: it is not the slug of {self.username!r}; "
                "make it with taccuino.naming.slug"
            )
        if self.place is not None and not _PLACE.fullmatch(self.place):
            raise MountRequestError(f"place {self.place!r}: it is no name of a place")
        for key, number in (("uid", self.uid), ("gid", self.gid), ("owner", self.owner)):
            if type(number) is not int or not _LOWEST_UID <= number < 2**32 - 1:
                raise MountRequestError(
                    f"{key} {number!r}: give the user's host id, {_LOWEST_UID} or more"
                )

    def _check_groups(self) -> None:
        taken = {self.directory_name, "scratch"}
        for group in self.groups:
            check_bucket("groups", group.bucket)
            name = group.directory
            if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or name in taken:
                raise MountRequestError(
                    f"groups: the directory {name!r} is no name of a file, or is taken"
                )
            taken.add(name)

    @property
    def quota_bytes(self) -> int | None:
        """The size of the workarea in bytes; None is without a limit."""
        return None if self.workarea_quota is None else parse_size(self.workarea_quota)

    @property
    def directory_name(self) -> str:
        """The bucket's name in ``cloud_storage``: the user's, or a safe form of it."""
        return directory_name(self.username)

    @property
    def scratch_prefix(self) -> str:
        """The only part of scratch that the user writes to, with its slash."""
        return scratch_prefix(self.username)

    def as_json(self) -> dict[str, Any]:
        """The request as the API takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A request from the API's JSON.

        Raises
        ------
        MountRequestError
            If a key is missing or unknown, or a value can't be used.
        """
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(set(data) - known):
            raise MountRequestError(f"{unknown[0]}: no such key in a mount request")
        if missing := sorted(
            known - set(data) - {"workarea_quota", "groups", "owner", "place"}
        ):
            raise MountRequestError(f"{missing[0]}: a mount request needs it")
        for key in ("username", "slug"):
            if not isinstance(data[key], str):
                raise MountRequestError(f"{key} {data[key]!r}: it must be a text")
        try:
            groups = tuple(GroupMount(**item) for item in data.get("groups", ()))
        except TypeError as error:
            raise MountRequestError(f"groups: {error}") from None
        return cls(**{**data, "groups": groups})


@dataclass(frozen=True)
class MountStatus:
    """How one user's mounts are.

    ``state`` is *mounted* when the workarea and the user's bucket are usable, *draining*
    while uploads finish after the last server stopped, *failed* when something is missing,
    *absent* when nothing is mounted. ``fault`` says what is wrong in sentences for the user,
    also in the state *mounted* (scratch missing, the storage away for a while).
    ``workarea_usable`` tells a failed bucket, with which a server can start, from a failed
    workarea, with which it can't.
    """

    slug: str
    state: MountState
    workarea: Path
    cloud_storage: Path
    workarea_usable: bool = False
    uploads_pending: int = 0
    upload_errors: list[str] = field(default_factory=list)
    fault: str | None = None
    username: str = ""
    """Whose mounts they are; nothing in the state *absent*."""
    uid: int = 0
    """The host uid that they are mounted for; 0 in the state *absent*."""
    storage_away: bool = False
    """Whether the object storage does not answer this node."""

    def as_json(self) -> dict[str, Any]:
        """The status as the API answers it."""
        data = dataclasses.asdict(self)
        return data | {
            "workarea": str(self.workarea),
            "cloud_storage": str(self.cloud_storage),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A status from the API's JSON."""
        values = dict(data)
        values["workarea"] = Path(values["workarea"])
        values["cloud_storage"] = Path(values["cloud_storage"])
        return cls(**values)


class MountPlaneClient:
    """Asks the mount plane over its unix socket.

    Every call opens its own connection: calls are few, and so the client needs no closing
    and survives the daemon's restarts.

    Raises
    ------
    MountPlaneError
        From every call, if the daemon can't be reached or refuses; `MountRequestError` if
        the request itself is at fault.
    """

    def __init__(self, settings: Settings) -> None:
        assert settings.mount_plane.socket is not None
        self._socket = settings.mount_plane.socket
        self._ready_timeout = settings.mount_plane.ready_timeout
        self._drain_timeout = settings.mount_plane.drain_timeout

    async def mount(
        self, request: MountRequest, *, workarea_only: bool = False, ahead: bool = False
    ) -> MountStatus:
        """Mount what the user's servers need; answers when it is proven usable or failed.

        With ``workarea_only`` the object storage is left for a later call: a container can be
        made on the workarea, and sees the rest appear. With ``ahead`` as well, what that call
        will take longest for is begun.
        """
        return MountStatus.from_json(
            await self.call(
                "PUT",
                f"/mounts/{request.slug}?workarea_only={int(workarea_only)}&ahead={int(ahead)}",
                body=request.as_json(),
                timeout=self._ready_timeout + 15,
            )
        )

    async def status(self, slug: str) -> MountStatus:
        """How the user's mounts are; state *absent* for a user that it does not know."""
        return MountStatus.from_json(await self.call("GET", f"/mounts/{slug}"))

    async def list(self) -> list[MountStatus]:
        """The statuses of all users with mounts or pending uploads."""
        answer = await self.call("GET", "/mounts")
        return [MountStatus.from_json(item) for item in answer["mounts"]]

    async def drain(
        self, slug: str, timeout: float, report: Callable[[str], None] | None = None
    ) -> MountStatus:
        """Wait until the user's uploads are done, at most ``timeout`` seconds.

        It does not wait that long for uploads that all fail (a full quota, say).
        ``report`` is told how many files are left, each time the number changes.
        """
        left, told = timeout, -1
        while True:
            step = min(left, 2.0)
            answer = await self.call(
                "POST", f"/mounts/{slug}/drain", body={"timeout": step}, timeout=step + 30
            )
            status = MountStatus.from_json(answer)
            left -= step
            failing = len(status.upload_errors) >= status.uploads_pending
            if left <= 0 or (failing and timeout - left >= _STUCK_SECONDS):
                return status
            if not status.uploads_pending:
                return status
            if report and status.uploads_pending != told:
                told = status.uploads_pending
                files = "1 file" if told == 1 else f"{told} files"
                report(f"Uploading to the object storage: {files} left")

    async def unmount(self, slug: str, *, drain: bool = True) -> MountStatus:
        """Let go of the user's mounts; nothing is lost either way.

        With ``drain`` it waits for uploads (``mount_plane.drain_timeout``). Uploads that are
        still pending go on in the background: the state is then *draining*.
        """
        return MountStatus.from_json(
            await self.call(
                "DELETE",
                f"/mounts/{slug}?drain={int(drain)}",
                timeout=self._drain_timeout + 60,
            )
        )

    async def renew_credentials(self, slug: str) -> None:
        """Have it ask the hub for the user's storage credentials, unless its own are fresh."""
        await self.call("GET", f"/credentials/{slug}")

    async def check(self) -> None:
        """Whether the mount plane answers and can do its work."""
        await self.call("GET", "/health")

    async def shows_as_another(self) -> bool:
        """Whether it can show a workarea with other ids than its files have."""
        return bool((await self.call("GET", "/health"))["idmapped"])

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        timeout: float = 30.0,
    ) -> Any:
        """Call the daemon's API; its answer."""
        connector = aiohttp.UnixConnector(path=str(self._socket))
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=limit) as session,
                session.request(method, f"http://mount-plane{path}", json=body) as response,
            ):
                answer = await response.json()
        except TimeoutError:
            raise MountPlaneError(
                f"the mount plane at {self._socket} gave no answer to {method} {path} "
                f"within {timeout:g} s; see its log",
                reason="unreachable",
            ) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise MountPlaneError(
                f"the mount plane at {self._socket} can't be reached ({error}); "
                "see whether the service mount-plane runs",
                reason="unreachable",
            ) from error
        if response.status == 400:
            raise MountRequestError(str(answer.get("message", answer)))
        if response.status >= 300:
            message = answer.get("message", answer) if isinstance(answer, dict) else answer
            refusal = MountPlaneError(f"the mount plane answered {response.status}: {message}")
            refusal.status, refusal.said = response.status, str(message)
            raise refusal
        return answer
