"""`taccuino upgrade` under the users of a running service."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from support.instance import Instance
from support.notebook import Notebook
from taccuino.draining import Drain, drain, draining, end_drain

pytestmark = pytest.mark.integration


@pytest.fixture
def upgraded_back(instance: Instance) -> Iterator[None]:
    """Whatever a test upgraded to, the instance is as it was in the end."""
    yield
    instance.run("upgrade")


def settings_with(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "taccuino.toml"
    file.write_text(text)
    return file


def test_an_upgrade_restarts_what_changed_and_nobody_notices(
    instance: Instance, tmp_path: Path, upgraded_back: None
) -> None:
    alice, bruno = instance.person("alice"), instance.person("bruno")
    for person in (alice, bruno):
        person.stop()
    assert alice.start()[-1].get("ready")
    pids = {s["name"]: s["pid"] for s in instance.status["services"]}
    edge_before = pids.pop("edge")
    with Notebook(alice) as notebook, ThreadPoolExecutor(1) as pool:
        notebook.run("kept = 42")
        assert bruno.api("POST", "/users/bruno/server", json={}).status_code in (201, 202)
        # What changed is a line that the hub's pages show, and a limit of the edge's.
        file = settings_with(
            tmp_path,
            '[hub]\nannouncement = "Upgraded under you"\n[edge]\nmax_connections = 3000\n',
        )
        running = pool.submit(instance.run, "upgrade", settings=file)
        while not running.done():
            assert notebook.run("print(kept)") == "42\n"
            assert alice.api("GET", "/user/alice/api/status").ok
            assert alice.api("GET", "/users/alice").json()["servers"][""]["ready"]
        said = running.result()
        assert notebook.run("print(kept)") == "42\n"
    now = {s["name"]: s["pid"] for s in instance.status["services"]}
    assert now.pop("edge") == edge_before  # reloaded: the master stays
    assert {name for name, pid in now.items() if pids[name] != pid} == {"hub"}
    assert "verified" in said
    # bruno's start was waited for
    assert "2 notebook servers answer as before" in said, (
        f"{said}\n{instance.run('logs', 'hub')}"
    )
    assert "Upgraded under you" in alice.http.get(f"{instance.url}/hub/home", timeout=30).text
    assert bruno.api("GET", "/users/bruno").json()["servers"][""]["ready"]
    assert draining(instance.state_dir) is None
    *_, backup = sorted((instance.state_dir / "hub").glob("jupyterhub.before-upgrade-*.sqlite"))
    assert backup.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(backup)) as database:
        names = {name for (name,) in database.execute("SELECT name FROM users")}
    assert {"alice", "bruno"} <= names
    for person in (alice, bruno):
        person.stop()


def test_a_service_that_does_not_work_afterwards_is_told_of(
    instance: Instance, tmp_path: Path, upgraded_back: None
) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "login.html").write_text("{{ nothing.of.this.is.there }}")
    for directory in (tmp_path, *tmp_path.parents):
        if directory.is_relative_to("/tmp") and directory != Path("/tmp"):
            directory.chmod(0o755)
    file = settings_with(tmp_path, f'[hub]\ntemplates = ["{templates}"]\n')
    alice = instance.person("alice")
    alice.stop()
    assert alice.start()[-1].get("ready")
    said = instance.run("upgrade", settings=file, check=False)
    assert "Traceback" not in said
    assert "the login page does not come through the edge; it answers status 500" in said
    assert "To go back" in said
    assert "taccuino upgrade" in said
    assert draining(instance.state_dir) is None
    assert alice.api("GET", "/user/alice/api/status").ok
    alice.stop()


def test_new_servers_are_refused_with_a_sentence_during_an_upgrade(instance: Instance) -> None:
    alice = instance.person("alice")
    alice.stop()
    drain(instance.state_dir, Drain("The service is being updated.", 60))
    try:
        answer = alice.api("POST", "/users/alice/server", json={})
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "20"
        assert answer.json()["message"] == "The service is being updated."
        page = alice.http.get(f"{instance.url}/hub/spawn/alice?start=1", timeout=30)
        assert "Traceback" not in page.text
    finally:
        end_drain(instance.state_dir)
    assert alice.start()[-1].get("ready")
    alice.stop()


def test_there_must_be_something_to_upgrade(instance: Instance, tmp_path: Path) -> None:
    nothing = Instance(tmp_path / "nothing")
    said = nothing.run("upgrade", check=False)
    assert "nothing runs in" in said
    assert "taccuino up" in said
    assert "Traceback" not in said
    assert not (tmp_path / "nothing").exists()
