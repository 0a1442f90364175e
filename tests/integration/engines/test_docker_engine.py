"""What a Docker in place of podman needs besides: images that podman made, and no daemon at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_servers import Servers

from taccuino.engines.docker_images import DockerImages
from taccuino.engines.images import ImageError, ImageStore
from taccuino.settings import Settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("engine_settings", ["docker"], indirect=True),
]

MADE = "localhost/tc-test/made:latest"


async def test_docker_runs_what_podman_made(servers: Servers) -> None:
    settings, told = servers.settings, []
    store = ImageStore(settings)
    command = 'CMD ["/usr/bin/python3","/srv/server.py"]'
    archive = str(settings.state_dir / "image.tar")
    store.podman("import", "-q", "--change", command, archive, MADE, what="importing")
    assert not store.in_engine(MADE)
    for _ in range(2):
        store.deliver(MADE, told.append)
    assert told == [f"Handing {MADE} to Docker"]
    assert store.in_engine(MADE)
    spawner = servers.spawner("alice", image=MADE)
    await spawner.start()
    await spawner.stop()

    # An image that was made anew replaces the earlier one.
    before = DockerImages(settings.engine.socket).identity(MADE)
    change = ["--change", command, "--change", "ENV MADE=anew"]
    store.podman("import", "-q", *change, archive, MADE, what="importing")
    store.deliver(MADE, told.append)
    assert len(told) == 2
    assert DockerImages(settings.engine.socket).identity(MADE) not in {None, before}
    store.podman("rmi", "--all", "--force", what="removing")


def test_what_docker_refuses_is_told(engine_settings: Settings, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"no archive" * 1000)
    images = DockerImages(engine_settings.engine.socket)
    with pytest.raises(Exception, match=r"engine\.socket: the Docker at .* given an image"):
        images.load(broken)


def test_no_daemon(engine_settings: Settings, tmp_path: Path) -> None:
    elsewhere = engine_settings.model_copy(deep=True)
    elsewhere.state_dir = tmp_path
    elsewhere.engine.socket = tmp_path / "nobody.sock"
    with pytest.raises(ImageError, match="is it running"):
        ImageStore(elsewhere).in_engine(MADE)
