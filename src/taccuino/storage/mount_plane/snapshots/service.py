"""The snapshots of all users on this node, and the times at which they are made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from taccuino.errors import TaccuinoError
from taccuino.naming import is_slug
from taccuino.settings import Settings
from taccuino.storage.mount_client import MountRequest, MountRequestError
from taccuino.storage.mount_plane.credentials import CredentialSource
from taccuino.storage.mount_plane.layout import node_name
from taccuino.storage.snapshots import SnapshotOwner, SnapshotState

from . import area
from .key import derived_key, service_secret
from .lineage import Lineage
from .pointer import Pointers
from .user import Node, UserSnapshots

if TYPE_CHECKING:
    from taccuino.storage.mount_plane.user import UserMounts

__all__ = ["Snapshots"]

log = logging.getLogger(__name__)

_TEND_SECONDS = 5.0


class Snapshots:
    """Holds a `UserSnapshots` for each user with a workarea that may have changed."""

    def __init__(
        self,
        settings: Settings,
        credentials: CredentialSource,
        away: Callable[[], bool],
        mounts: Callable[[], Mapping[str, UserMounts]],
    ) -> None:
        self.enabled = settings.snapshots.enabled
        self._settings = settings
        self._mounts = mounts
        self._credentials = credentials
        self._pointers = Pointers(settings)
        self._away = away
        self._users: dict[str, UserSnapshots] = {}
        self._node: Node | None = None
        self._tending: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what an earlier daemon left to be done.

        Raises
        ------
        SettingsError
            If the secret for users' keys can't be used.
        """
        await asyncio.to_thread(area.clear_leftovers, self._settings)
        if not self.enabled:
            return
        await asyncio.to_thread(service_secret, self._settings)
        for slug, owner in (await asyncio.to_thread(self._left_behind)).items():
            self._users[slug] = UserSnapshots(self._shared(), owner)
        for mounted in self._mounts().values():
            if mounted.is_wanted:  # its server outlived the earlier daemon
                self.of(SnapshotOwner.of(mounted.request)).arrived = True
        self._tending = asyncio.create_task(self._tend())

    async def stop(self) -> None:
        """End what is under way; it is done again by a later daemon."""
        if self._tending:
            self._tending.cancel()
        await asyncio.gather(*(user.cancel() for user in self._users.values()))
        await self._pointers.close()

    def of(self, owner: SnapshotOwner) -> UserSnapshots:
        """A user's snapshots.

        Raises
        ------
        MountRequestError
            If this service makes none.
        """
        if not self.enabled:
            raise MountRequestError("this service makes no snapshots (snapshots.enabled)")
        known = self._users.get(owner.slug)
        if known is None or known.owner != owner:
            known = self._users[owner.slug] = UserSnapshots(self._shared(), owner)
        return known

    def known(self, slug: str) -> UserSnapshots | None:
        """A user's snapshots, if anything is known of them here."""
        if slug not in self._users and (user := self._mounts().get(slug)):
            return self.of(SnapshotOwner.of(user.request)) if self.enabled else None
        return self._users.get(slug)

    async def state(self, slug: str) -> SnapshotState:
        """How a user's snapshots are."""
        user = self.known(slug)
        return await user.state() if user else SnapshotState()

    async def born(self, request: MountRequest) -> None:
        """A user's area is about to be made."""
        if self.enabled:
            await self.of(SnapshotOwner.of(request)).born()

    def left(self, slug: str) -> None:
        """The last of a user's servers has gone."""
        if user := self._users.get(slug):
            user.left()

    def _shared(self) -> Node:
        if self._node is None:
            settings = self._settings
            self._node = Node(
                settings=settings,
                name=node_name(settings),
                key=lambda username: derived_key(service_secret(settings), username),
                credentials=self._credentials,
                pointers=self._pointers,
                away=self._away,
                turns=asyncio.Semaphore(1),
            )
        return self._node

    def _left_behind(self) -> dict[str, SnapshotOwner]:
        """The owners of areas that changed since their last snapshot."""
        directory = self._settings.workarea.directory
        assert directory is not None
        found = {}
        for path in directory.glob("*.lineage.json"):
            slug = path.name.removesuffix(".lineage.json")
            with contextlib.suppress(OSError, ValueError, TypeError, MountRequestError):
                known = Lineage(**json.loads(path.read_text(encoding="utf-8")))
                if known.changed and is_slug(slug):
                    found[slug] = SnapshotOwner(known.username, slug, known.bucket)
        return found

    async def _tend(self) -> None:
        turns = self._shared().turns
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            users = map(self.known, {*self._users, *self._mounts()})
            for user in sorted(filter(None, users), key=lambda one: one.next_try):
                async with turns:  # is free from here on; waiting, nobody's lock is held
                    pass
                try:
                    await user.tend(time.monotonic())
                except (OSError, TaccuinoError) as error:
                    log.warning("%s: its snapshots: %s", user.owner.slug, error)
                await asyncio.sleep(0)  # until what was begun has its turn
