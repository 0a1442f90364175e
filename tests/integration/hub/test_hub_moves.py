"""A user moves to another site; that is a stand-in, which takes servers."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from hub_trial import Hub, run_hub, wait_until

pytestmark = pytest.mark.integration

SECRET = "0123456789abcdef" * 3


class Peer(BaseHTTPRequestHandler):
    """Says that it is ready, has no servers, and that nothing changes."""

    def do_GET(self) -> None:
        state = json.dumps({"site": "cnaf", "version": "1"}).encode()
        if "version=1" in self.path:
            time.sleep(0.5)
            self.send_response(204)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(state)))
        self.end_headers()
        self.wfile.write(state)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub whose stops count as slow at once."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret_file = tmp_path_factory.mktemp("secrets") / "sites"
    secret_file.write_text(SECRET)
    secret_file.chmod(0o600)
    url = f"http://127.0.0.1:{server.server_port}"
    yield from run_hub(
        {"enabled": False},
        tornado={"slow_stop_timeout": 0.1},
        site="bari",
        peers=[{"name": "cnaf", "url": url}],
        sites={"secret_file": str(secret_file)},
    )
    server.shutdown()


@pytest.fixture(autouse=True)
def peer_is_known(hub: Hub) -> None:
    (hub.directory / "state/edge").mkdir(exist_ok=True)
    wait_until(lambda: "The site cnaf can be reached" in hub.log(), 5, hub.log)


@contextlib.contextmanager
def maintenance(hub: Hub) -> Iterator[None]:
    file = hub.directory / "state/hub/maintenance.json"
    file.write_text(json.dumps({"since": time.time()}))
    yield
    file.unlink()


def move(hub: Hub, browser: requests.Session) -> requests.Response:
    home = browser.get(f"{hub.url}/home", timeout=10).text
    token = re.search(r'"?xsrf_token"?: "([^"]+)"', home)[1]
    return browser.post(
        f"{hub.url}/move",
        data={"site": "cnaf", "_xsrf": token},
        timeout=30,
        allow_redirects=False,
    )


def test_the_browser_goes_on_when_the_server_has_ended(hub: Hub) -> None:
    hub.run_server("uploading", cpu="2")
    answer = move(hub, hub.browser("uploading"))
    assert hub.server("uploading") is None
    assert answer.status_code == 302, answer.text
    assert "oauth_login" in answer.headers["Location"]
    assert "cpu%3D2" in answer.headers["Location"]
    assert answer.cookies["taccuino-site"] == "cnaf"


def test_who_starts_or_stops_a_server_does_not_move(hub: Hub) -> None:
    hub.run_server("uploading-more")
    browser = hub.browser("uploading-more")
    with maintenance(hub):
        assert "Go on at cnaf" in browser.get(f"{hub.url}/home", timeout=10).text
        assert hub.api("DELETE", "/users/uploading-more/server").status_code == 202
        answer = move(hub, browser)
        assert answer.status_code == 409, hub.log()
        assert "move when that is done" in answer.text
        home = browser.get(f"{hub.url}/home", timeout=10).text
        assert "Stopping" in home
        assert "Go on at cnaf" not in home
        wait_until(lambda: hub.server("uploading-more") is None, 10, hub.log)
        assert "Go on at cnaf" in browser.get(f"{hub.url}/home", timeout=10).text
