"""A spawner for each engine: whose host uids a server has, and who maps them."""

from __future__ import annotations

from .engine import DockerEngine
from .spawner import NotebookSpawner
from .uid_ranges import UidRange

__all__ = ["DockerEngineSpawner", "PodmanSpawner"]


class PodmanSpawner(NotebookSpawner):
    """Notebook servers in podman, each user in a range of host uids of their own."""


class DockerEngineSpawner(NotebookSpawner):
    """Notebook servers in Docker, which has one mapping of uids for its whole daemon."""

    async def _uids(self) -> UidRange:
        engine = self.engine
        assert isinstance(engine, DockerEngine)
        return UidRange(await engine.uid_offset())

    def mapped_uids(self, uids: UidRange) -> None:
        """The daemon maps them by itself."""
