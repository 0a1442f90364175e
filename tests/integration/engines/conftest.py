"""Each test runs in a podman and in a Docker; ``only`` names the one where it differs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from engine_rigs import running_engine
from engine_servers import Servers

from taccuino.engines import reconcile
from taccuino.settings import Settings


@pytest.fixture(scope="session", params=["podman", "docker"])
def engine_settings(request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings of an instance whose engine runs and has the tests' image."""
    with running_engine(request.param) as settings:
        yield settings


@pytest.fixture
async def servers(engine_settings: Settings) -> AsyncIterator[Servers]:
    """Spawners; what they leave behind is removed after the test."""
    made = Servers(engine_settings)
    yield made
    for user in made.users.values():
        for spawner in user.spawners.values():
            await spawner._clean_up()
    await reconcile(engine_settings, set)
