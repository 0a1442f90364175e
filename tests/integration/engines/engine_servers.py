"""Spawners as JupyterHub makes them, and a way to ask the servers that they start."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import aiohttp

from taccuino.engines import DockerEngineSpawner, NotebookSpawner, PodmanSpawner
from taccuino.engines.engine import engine_for
from taccuino.settings import Settings

IMAGE = "localhost/tc-test/double:latest"


class Servers:
    """Makes spawners as JupyterHub does, and talks to the servers they start."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.users: dict[str, SimpleNamespace] = {}

    def spawner(self, username: str, *command: str, **traits: Any) -> NotebookSpawner:
        """A new spawner; with a command, one that runs in place of the image's own."""
        user = SimpleNamespace(
            name=username,
            url=f"/user/{username}/",
            escaped_name=username,
            groups=[],
            spawners={},
        )
        user = self.users.setdefault(username, user)
        hub = SimpleNamespace(
            api_url="http://127.0.0.1:1/hub/api", public_host="", base_url="/hub/"
        )
        options = {"image": IMAGE, "mem_limit": 128 << 20, "cpu_limit": 0.5, **traits}
        if command:
            options["cmd"] = list(command)
        spawner_class = PodmanSpawner if self.podman else DockerEngineSpawner
        spawner = spawner_class(user=user, hub=hub, settings=self.settings, **options)
        spawner.term_timeout = 2.0
        user.spawners[spawner.name] = spawner
        return spawner

    async def ask(self, spawner: NotebookSpawner, what: str, **query: str) -> Any:
        """What the server double in the spawner's container sees."""
        url = f"http://{spawner.container.ip}:8888/{what}"
        async with aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
            return await answer.json(content_type=None)

    async def objects(self) -> tuple[list[str], list[str]]:
        """The names of all containers and of all networks of servers."""
        engine = self.engine
        containers = [
            str(one["Names"][0]).strip("/")
            for one in await engine.containers("taccuino.instance")
        ]
        networks = [one.name for one in await engine.networks("taccuino.instance")]
        return containers, networks

    @property
    def podman(self) -> bool:
        """Whether the engine is podman, with uids for each user."""
        return self.settings.engine.kind == "podman"

    @property
    def engine(self) -> Any:
        return engine_for(self.settings.engine)

    async def nothing_left(self) -> None:
        """Fail unless every container, network and bridge is gone."""
        assert await self.objects() == ([], [])
        prefix = f"tc-{self.settings.port}-"
        assert [one for _, one in socket.if_nameindex() if one.startswith(prefix)] == []
