"""The hub is killed while a server starts: nothing of it stays, and nobody else is touched."""

from __future__ import annotations

import time

import psutil
import pytest

from support.instance import Instance
from support.notebook import Notebook

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("phase", ["container", "jupyter"])
def test_what_a_killed_hub_was_making_is_removed(instance: Instance, phase: str) -> None:
    running, starting = instance.person("alice"), instance.person("bruno")
    for person in (running, starting):
        person.stop()
    assert running.start()[-1].get("ready")
    hub = instance.service("hub")
    with Notebook(running) as notebook:
        assert starting.api("POST", "/users/bruno/server", json={"cpu": 0.5}).status_code == 202
        next(event for event in starting.progress() if event.get("phase") == phase)
        hub.kill()  # at once: a start is a matter of half a second
        psutil.wait_procs([hub], timeout=10)
        assert any(line.startswith("mount") for line in instance.leftovers("bruno"))
        instance.wait_until_ready()
        deadline = time.monotonic() + 30
        while left := instance.leftovers("bruno"):
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        said = notebook.shell("echo kept > cloud_storage/alice/kept.txt && echo done")
        assert said == "done\n"
    assert starting.start()[-1].get("ready")
    for person in (running, starting):
        person.stop()
