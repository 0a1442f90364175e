"""What a spawner knows of storage: a protocol, so that engines and storage never meet.

The hub implements it over the mount plane; a test, or a site without object storage, over
nothing at all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

__all__ = ["Attachment", "Bind", "NoStorage", "ServerIds", "ServerStorage"]


@dataclass(frozen=True)
class Bind:
    """A directory of the host that a container sees at ``target``.

    ``rslave`` lets a mount that the host makes, or makes again, after the container's start
    appear inside; nothing that happens inside ever reaches the host's mounts.
    """

    source: Path
    target: str
    read_only: bool = False
    propagation: str = "rslave"

    @classmethod
    def of_volume(cls, volume: tuple[str, Mapping[str, str]]) -> Self:
        """One of ``DockerSpawner.volume_binds``: an institute's own data."""
        source, how = volume
        propagation = how.get("propagation", "rslave")
        return cls(Path(source), how["bind"], how["mode"] == "ro", propagation)


@dataclass(frozen=True)
class Attachment:
    """A user's storage, ready for a container."""

    binds: tuple[Bind, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    """Sentences for the user; none when every mount is usable."""
    completion: Callable[[], Awaitable[tuple[str, ...]]] | None = None
    """Attaches what is not needed to make the container, and answers with the faults of that.

    It is awaited while the server starts, and appears in the container by propagation.
    """
    confirmation: Callable[[], Awaitable[tuple[str, ...]]] | None = None
    """Awaited before the server is ready; answers with what the user should know of the files.

    It raises ``FilesOutdatedError`` where they are older than what another site has: the server
    is given up, and the next `attach` has the newer ones.
    """
    expected: bool = False
    """Whether that is most likely there in a moment: a server that is ready need not wait."""


@dataclass(frozen=True)
class ServerIds:
    """Host ids: the uid is also the gid."""

    uid: int
    """Of the server's processes."""
    owner: int
    """The user's own, to which their files on the node belong."""


class ServerStorage(Protocol):
    """Attaches a user's storage before a start and lets go of it after a stop."""

    async def mounted_for(self, username: str) -> int | None:
        """The uid that the user's directories are mounted for; nothing where they are not.

        Their next server must have it: files may be in use, or wait for their upload.
        """
        ...

    async def attach(
        self,
        username: str,
        ids: ServerIds,
        report: Callable[[str], None],
        place: str | None = None,
    ) -> Attachment:
        """Make the user's directories usable by the server's processes; idempotent.

        With ``place`` they appear there, where a container without a user looks.

        Raises
        ------
        TaccuinoError
            Only where no workarea can be had; any other fault is in the attachment.
        """
        ...

    async def detach(self, username: str, report: Callable[[str], None]) -> None:
        """Drain what waits for its upload, then unmount; idempotent."""
        ...


class NoStorage:
    """No storage: all that a server writes is gone with it."""

    async def mounted_for(self, username: str) -> int | None:  # noqa: ARG002
        """Nothing is mounted."""
        return None

    async def attach(
        self,
        username: str,  # noqa: ARG002 - the protocol's
        ids: ServerIds,  # noqa: ARG002
        report: Callable[[str], None],  # noqa: ARG002
        place: str | None = None,  # noqa: ARG002
    ) -> Attachment:
        """Nothing to bind."""
        return Attachment()

    async def detach(self, username: str, report: Callable[[str], None]) -> None:
        """Nothing to let go of."""
