"""Snapshots of workareas, as their callers see them: what there is, what is done, the client.

The mount plane makes and restores them (`taccuino.storage.mount_plane.snapshots`); these types
are the JSON between it and the hub.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from taccuino.naming import slug as slug_of
from taccuino.settings import Settings

from .mount_client import MountPlaneClient, MountRequest, MountRequestError, check_bucket

__all__ = [
    "PREFIX",
    "RESERVED",
    "Arrival",
    "Job",
    "Snapshot",
    "SnapshotClient",
    "SnapshotOwner",
    "SnapshotState",
    "is_snapshot_id",
    "when",
]

RESERVED: Final = ".taccuino/"
"""What the service keeps in a user's bucket for itself: neither the mount nor the storage
pages show it."""
PREFIX: Final = f"{RESERVED}workarea/"

_ID = re.compile(r"[0-9a-f]{8,64}")


def is_snapshot_id(text: object) -> bool:
    """Whether this has the form of a snapshot's id."""
    return isinstance(text, str) and _ID.fullmatch(text) is not None


def when(seconds: float) -> str:
    """A time for people."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


@dataclass(frozen=True)
class SnapshotOwner:
    """Whose snapshots: all that is needed where nothing of theirs is mounted."""

    username: str
    slug: str
    bucket: str

    def __post_init__(self) -> None:
        if not all(isinstance(value, str) for value in dataclasses.astuple(self)):
            raise MountRequestError("username, slug and bucket must be texts")
        if self.slug != slug_of(self.username):
            raise MountRequestError(
                f"slug {self.slug!r}: it is not the slug of {self.username!r}"
            )
        check_bucket("bucket", self.bucket)

    @classmethod
    def of(cls, request: MountRequest) -> Self:
        """The user of a mount request."""
        return cls(request.username, request.slug, request.bucket)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """An owner from the API's JSON.

        Raises
        ------
        MountRequestError
            If it names none.
        """
        try:
            return cls(data["username"], data["slug"], data["bucket"])
        except KeyError as error:
            raise MountRequestError(f"{error.args[0]}: snapshots need it") from None


@dataclass(frozen=True)
class Snapshot:
    """A snapshot; ``at`` in seconds since the epoch.

    ``apart``: what was changed at a site while the workarea had gone on at another, and is in
    no later snapshot for certain.
    """

    id: str
    at: float
    site: str
    bytes: int | None = None
    files: int | None = None
    newest: bool = False
    apart: bool = False


@dataclass(frozen=True)
class Job:
    """What is done with a user's snapshots, or was done last."""

    kind: Literal["make", "restore"]
    state: Literal["running", "done", "failed"]
    message: str
    percent: int | None = None
    folder: str | None = None
    """Where something was restored to, in the workarea."""


@dataclass(frozen=True)
class SnapshotState:
    """How a user's snapshots are, as this node knows without asking the storage."""

    job: Job | None = None
    at: float | None = None
    """From when the snapshot is that the workarea on this node goes on from."""
    site: str | None = None
    fault: str | None = None
    """Why the last one could not be made, in a sentence for the user."""
    notices: tuple[str, ...] = ()
    """What else the user must be told: what was restored where."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """A state from the API's JSON."""
        job = Job(**data["job"]) if data["job"] else None
        return cls(**{**data, "job": job, "notices": tuple(data["notices"])})


@dataclass(frozen=True)
class Arrival:
    """What a start finds.

    *keep* what is on the node, *replace* it by the newest snapshot, or have that *beside* it,
    where both have changed.
    """

    course: Literal["keep", "replace", "beside"]
    snapshot: Snapshot | None = None
    message: str | None = None
    """What the user must be told."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """An arrival from the API's JSON."""
        snapshot = Snapshot(**data["snapshot"]) if data["snapshot"] else None
        return cls(data["course"], snapshot, data["message"])


class SnapshotClient:
    """Asks the mount plane for snapshots.

    Raises
    ------
    MountPlaneError
        From every call, if the daemon can't be reached or refuses; the text is a sentence.
    """

    def __init__(self, settings: Settings, plane: MountPlaneClient) -> None:
        self._settings = settings.snapshots
        self._call = plane.call

    async def arrive(
        self, request: MountRequest, older: Literal["tell", "replace", "take"]
    ) -> Arrival:
        """Compare the node's workarea with the newest snapshot, before a server has it.

        One that is *older* is only told of, or replaced (`state` tells how far that is), or
        taken as it is.
        """
        answer = await self._call(
            "PUT",
            f"/snapshots/{request.slug}/arrival?older={older}",
            body=request.as_json(),
            timeout=2 * self._settings.look_seconds + 10,
        )
        return Arrival.from_json(answer)

    async def give_up(self, slug: str) -> None:
        """End a restore that takes too long; what was there before stays."""
        await self._call("DELETE", f"/snapshots/{slug}/job", timeout=15)

    async def stop(self, slug: str) -> SnapshotState:
        """Make one since the last server has stopped; waits ``snapshots.stop_seconds``."""
        limit = self._settings.stop_seconds
        return SnapshotState.from_json(
            await self._call("PUT", f"/snapshots/{slug}/stop", timeout=limit + 10)
        )

    async def make(self, owner: SnapshotOwner) -> SnapshotState:
        """Begin to make one."""
        body = dataclasses.asdict(owner)
        return SnapshotState.from_json(
            await self._call("POST", f"/snapshots/{owner.slug}", body=body)
        )

    async def restore(self, owner: SnapshotOwner, snapshot: str) -> SnapshotState:
        """Begin to restore one into a folder of the workarea."""
        body = {**dataclasses.asdict(owner), "snapshot": snapshot}
        path = f"/snapshots/{owner.slug}/restore"
        return SnapshotState.from_json(await self._call("POST", path, body=body))

    async def list(self, owner: SnapshotOwner) -> list[Snapshot]:
        """All there are, the newest first."""
        body = dataclasses.asdict(owner)
        path = f"/snapshots/{owner.slug}/list"
        answer = await self._call("POST", path, body=body, timeout=60)
        return [Snapshot(**item) for item in answer["snapshots"]]

    async def state(self, slug: str) -> SnapshotState:
        """How they are, as the node knows."""
        return SnapshotState.from_json(await self._call("GET", f"/snapshots/{slug}"))
