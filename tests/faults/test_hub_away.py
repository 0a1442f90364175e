"""The hub is gone for longer than a notebook server believes what it said: people work on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import requests
from websockets.sync.client import connect

from support.instance import Instance
from support.notebook import Notebook
from support.person import Person

pytestmark = pytest.mark.integration

CACHE_SECONDS = 2


@pytest.fixture
def short_memory(instance: Instance) -> Iterator[Instance]:
    """Servers that start now ask the hub about a token every two seconds."""
    file = instance.state_dir / "settings.json"
    before = file.read_text()
    settings = json.loads(before)
    settings["hub"]["token_cache_seconds"] = CACHE_SECONDS
    file.write_text(json.dumps(settings))
    try:
        instance.kill("hub")
        instance.wait_until_ready()
        yield instance
    finally:
        file.write_text(before)
        instance.kill("hub")
        instance.wait_until_ready()


def made_token(person: Person) -> tuple[str, str]:
    """Another token of this user's, and its id."""
    answer = person.api("POST", f"/users/{person.username}/tokens", json={})
    assert answer.status_code == 201
    return answer.json()["token"], answer.json()["id"]


def status(
    instance: Instance, token: str, accept: str = "application/json"
) -> requests.Response:
    """Ask alice's server for its state with a token."""
    headers = {"Authorization": f"token {token}", "Accept": accept}
    address = f"{instance.url}/user/alice/api/status"
    return requests.get(address, headers=headers, timeout=60)


def websocket(person: Person, kernel: str) -> None:
    """Open a kernel's websocket anew, as a page in the browser does: with its cookies."""
    address = f"{person.url}/user/{person.username}/api/kernels/{kernel}/channels"
    cookies = {c.name: c.value for c in person.http.cookies if c.path != "/hub/"}
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    with connect(
        address.replace("http", "ws", 1),
        additional_headers={"Cookie": header, "Origin": person.url},
    ) as socket:
        socket.ping().wait(10)


def test_who_is_in_works_on_and_who_is_out_stays_out(short_memory: Instance) -> None:
    instance, alice = short_memory, short_memory.person("alice")
    alice.stop()
    assert alice.start()[-1].get("ready")
    with instance.without("hub"):  # the next one knows the server no worse
        pass
    instance.wait_until_ready()
    page = alice.http.get(f"{instance.url}/user/alice/lab", timeout=60)
    assert page.ok
    assert "jupyter-config-data" in page.text
    (other, _), (revoked, revoked_id), (unseen, _) = (made_token(alice) for _ in range(3))
    assert status(instance, other).ok
    assert status(instance, revoked).ok
    with Notebook(alice) as notebook:
        notebook.run("kept = 42")
        # Revoked a moment before the hub goes, and believed a moment before that.
        gone = alice.api("DELETE", f"/users/alice/tokens/{revoked_id}")
        assert gone.status_code == 204
        with instance.without("hub"):
            end = time.monotonic() + 4 * CACHE_SECONDS
            while time.monotonic() < end:
                began = time.monotonic()
                answer = alice.http.get(f"{instance.url}/user/alice/api/contents", timeout=60)
                assert answer.ok, answer.text
                assert status(instance, other).ok
                assert time.monotonic() - began < 10
                assert notebook.run("print(kept)") == "42\n"
                time.sleep(0.5)
            page = alice.http.get(f"{instance.url}/user/alice/lab", timeout=60)
            assert page.ok
            assert "jupyter-config-data" in page.text
            websocket(alice, notebook.kernel)
            assert alice.api("GET", "/user/alice/api/kernels").ok
            assert status(instance, revoked).status_code == 403
            stranger = status(instance, unseen)
            assert stranger.status_code == 503
            assert "can't be reached at the moment" in stranger.json()["message"]
            shown = requests.get(
                f"{instance.url}/user/alice/lab",
                headers={"Authorization": f"token {unseen}", "Accept": "text/html"},
                timeout=60,
            )
            assert shown.status_code == 503
            assert "reached at the moment" in shown.text
        instance.wait_until_ready()
        assert status(instance, unseen).ok
        assert status(instance, revoked).status_code == 403
        assert notebook.run("print(kept)") == "42\n"
    alice.stop()


def test_a_logout_ends_what_a_server_believes(short_memory: Instance) -> None:
    instance, alice = short_memory, short_memory.person("alice")
    alice.stop()
    assert alice.start()[-1].get("ready")
    page = f"{instance.url}/user/alice/api/contents"
    assert alice.http.get(f"{instance.url}/user/alice/lab", timeout=60).ok
    assert alice.http.get(page, timeout=60).ok
    thief = requests.Session()
    thief.cookies.update(alice.http.cookies)
    assert thief.get(page, timeout=60).ok
    alice.http.get(f"{instance.url}/hub/logout", timeout=60)
    with instance.without("hub"):
        assert thief.get(page, timeout=60, allow_redirects=False).status_code in (302, 403)
    instance.wait_until_ready()
    instance.person("alice").stop()
