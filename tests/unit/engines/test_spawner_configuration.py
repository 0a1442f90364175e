"""The spawner as JupyterHub makes it from the configuration."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.crypto import CryptKeeper
from traitlets.config import Config

from taccuino.engines import DockerEngineSpawner, NoStorage, PodmanSpawner, configure
from taccuino.errors import TaccuinoError
from taccuino.naming import slug
from taccuino.settings import Settings


@pytest.mark.parametrize(
    ("kind", "kind_class"), [("podman", PodmanSpawner), ("docker", DockerEngineSpawner)]
)
def test_configured(kind: str, kind_class: type[Any]) -> None:
    c = Config()
    settings = Settings.parse({"port": 8000, "engine": {"kind": kind}})
    configure(c, settings)
    storage = NoStorage()
    c.NotebookSpawner.storage = lambda _spawner: storage
    assert c.JupyterHub.spawner_class is kind_class
    user = SimpleNamespace(name="Ada Lovelace", url="/user/ada/", groups=[])
    spawner = kind_class(user=user, hub=None, config=c)
    assert spawner.settings == settings
    assert spawner._server_storage is storage
    assert spawner.object_name == f"taccuino-8000-{slug(user.name)}"
    spawner.image = "localhost/other"
    assert spawner.object_name == f"taccuino-8000-{slug(user.name)}"
    assert not spawner.will_resume
    for trait in ("image", "cpu_limit", "mem_limit", "interface", "default_url"):
        assert spawner.has_trait(trait)


async def test_never_started() -> None:
    user = SimpleNamespace(name="ada", url="/user/ada/", groups=[])
    spawner = PodmanSpawner(user=user, hub=None, settings=Settings.parse({}))
    assert await spawner.poll() == 0
    assert spawner.get_state() == {}
    assert spawner.notices() == []
    assert not spawner.cancel_start()
    spawner.server_event("ready", "")


def test_a_hub_that_starts_again_knows_the_servers_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = SimpleNamespace(name="ada", url="/user/ada/", groups=[])
    spawner = PodmanSpawner(user=user, hub=None, settings=Settings.parse({}))
    keeper = CryptKeeper(keys=[b"k" * 32], n_threads=1)
    monkeypatch.setattr(CryptKeeper, "instance", lambda: keeper)
    spawner.object_id, spawner.api_token = "abc", "the server's token"
    kept = json.loads(json.dumps(spawner.get_state()))
    assert "the server's" not in str(kept)
    spawner.api_token = ""
    spawner.load_state(kept)
    assert spawner.api_token == "the server's token"
    keeper.keys = [b"o" * 32]
    spawner.api_token = ""
    spawner.load_state(kept)
    assert spawner.api_token == ""
    spawner.clear_state()
    assert spawner.get_state() == {}


def test_the_last_failure_outlives_the_server() -> None:
    user = SimpleNamespace(name="ada", url="/user/ada/", groups=[])
    spawner = PodmanSpawner(user=user, hub=None, settings=Settings.parse({}))
    spawner.load_state({"last_failure": {"reason": "exited"}, "object_id": "abc"})
    spawner.clear_state()
    assert spawner.get_state() == {"last_failure": {"reason": "exited"}}


class Ended:
    """A container that has ended, and notes what is done to it."""

    watched_alive = False
    id = name = network = "ended"

    def __init__(self, done: list[str]) -> None:
        self.done = done

    async def running(self, _: object) -> bool:
        return False

    async def end(self, *, ask_engine: bool) -> tuple[int, int, str]:
        return 137, 0, ""

    async def remove(self) -> None:
        self.done.append("removed")


@pytest.mark.parametrize("fault", [None, TaccuinoError("the edge is away")])
async def test_nobody_is_led_to_an_address_that_is_free(fault: TaccuinoError | None) -> None:
    done: list[str] = []

    async def unroute(spawner: Any) -> None:
        done.append(f"{spawner.user.name} unrouted")
        if fault:
            raise fault

    c = Config()
    c.NotebookSpawner.unroute = unroute
    user = SimpleNamespace(name="ada", url="/user/ada/", groups=[])
    spawner = PodmanSpawner(user=user, hub=None, settings=Settings.parse({}), config=c)
    spawner.object_id = "abc"
    spawner._server_container = Ended(done)  # type: ignore[assignment]
    assert await spawner.poll() == 137
    assert done == ["ada unrouted", "removed"]
    assert await spawner.poll() == 0
    assert done == ["ada unrouted", "removed"]
