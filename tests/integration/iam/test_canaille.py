"""Login, renewal, suspension and logout with the embedded IAM itself: canaille."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from hub_process import CLIENT_SECRET, Hub, free_port, wait_for

from support.person import Person
from taccuino.settings import Settings

pytestmark = pytest.mark.integration


class Issuer:
    """What a hub wants to know of a provider."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="tc-iam-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def hub(state: Path) -> Iterator[Hub]:
    """A hub and canaille, which listens at the issuer's address itself: no edge, no ``x5c``."""
    port = free_port()
    extra = "c.IAMAuthenticator.auth_refresh_age = 1\nc.IAMAuthenticator.renew_seconds = 2"
    hub = Hub(
        state, Issuer(f"http://127.0.0.1:{port}"), {"admin_groups": ["taccuino-admins"]}, extra
    )
    hub.settings = Settings.parse(
        {
            **json.loads(hub.settings.model_dump_json()),
            "local": {"iam_port": port, "iam_backend_port": port, "iam_token_seconds": 300},
        }
    )
    hub.settings.save(state / "settings.json")
    (state / "iam").mkdir()
    accounts = [
        {"username": name, "password": f"pass word of {name}", "admin": name == "ada"}
        for name in ("ada", "bruno")
    ]
    (state / "accounts.json").write_text(json.dumps(accounts))
    environment = {
        **os.environ,
        "AUTHLIB_INSECURE_TRANSPORT": "1",
        "TACCUINO_SETTINGS": str(state / "settings.json"),
    }
    with (state / "iam.log").open("wb") as log:
        iam = subprocess.Popen(
            [sys.executable, "-m", "taccuino.local.iam_server"],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:

        def answers() -> bool:
            assert iam.poll() is None, (state / "iam.log").read_text()
            try:
                return requests.get(f"http://127.0.0.1:{port}/oauth/jwks.json", timeout=5).ok
            except requests.ConnectionError:
                return False

        wait_for(answers, 60)
        hub.start()
        yield hub
        hub.stop()
    finally:
        iam.terminate()
        iam.wait(20)


def person(hub: Hub, name: str) -> Person:
    return Person(hub.url, name, f"pass word of {name}")


def home(someone: Person) -> str:
    return someone.http.get(f"{someone.url}/hub/home", timeout=30).url


def test_people_log_in_and_the_group_makes_the_admin(hub: Hub):
    for name, admin in (("ada", True), ("bruno", False)):
        someone = person(hub, name)
        assert someone.login().status_code == 200, hub.read_log()[-3000:]
        model = someone.api("GET", "/user").json()
        assert (model["name"], model["admin"]) == (name, admin)
        assert model["groups"] == (["taccuino-admins"] if admin else [])


def test_grants_are_renewed_with_rotation(hub: Hub):
    bruno = person(hub, "bruno")
    bruno.login()
    bruno.http.get(f"{hub.url}/hub/home", timeout=30)
    tokens = set()
    assert bruno.api("POST", "/users/bruno/server").status_code in {201, 202}
    token = (hub.state / "server-tokens/bruno").read_text()

    def third_token() -> bool:
        assert home(bruno) == f"{hub.url}/hub/home"
        answer = requests.post(
            f"{hub.url}/hub/api/taccuino/token",
            headers={"Authorization": f"token {token}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        tokens.add(answer.json()["access_token"])
        return len(tokens) >= 3

    wait_for(third_token, 40)
    bruno.api("DELETE", "/users/bruno/server")


def test_a_locked_account_reads_that_it_is_suspended(hub: Hub):
    bruno = person(hub, "bruno")
    bruno.login()
    assert home(bruno) == f"{hub.url}/hub/home"
    database = hub.state / "iam/canaille.sqlite"
    locked = datetime.now(UTC).replace(tzinfo=None).isoformat(sep=" ")
    with sqlite3.connect(database, timeout=20) as connection:
        connection.execute("UPDATE user SET lock_date = ? WHERE user_name = 'bruno'", [locked])
    try:
        url = wait_for(lambda: "/login" in home(bruno) and home(bruno), 40)
        assert parse_qs(urlsplit(url).query)["reason"] == ["suspended"]
    finally:
        with sqlite3.connect(database, timeout=20) as connection:
            connection.execute("UPDATE user SET lock_date = NULL WHERE user_name = 'bruno'")


def test_a_rotated_token_that_comes_back_is_an_expired_grant(hub: Hub):
    document = requests.get(
        f"{hub.settings.iam.issuer}/.well-known/openid-configuration", timeout=30
    ).json()
    answer = requests.post(
        document["token_endpoint"],
        data={"grant_type": "refresh_token", "refresh_token": "rotated long ago"},
        auth=("taccuino", CLIENT_SECRET),
        timeout=30,
    )
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_logout_leads_to_canailles(hub: Hub):
    ada = person(hub, "ada")
    ada.login()
    page = ada.http.get(f"{hub.url}/hub/logout", timeout=30)
    link = page.text.split('href="')[1].split('"')[0].replace("&amp;", "&")
    assert link.startswith(f"{hub.settings.iam.issuer}/oauth/end_session?")
    assert parse_qs(urlsplit(link).query)["client_id"] == ["taccuino"]
    asked = ada.http.get(link, timeout=30)
    assert asked.status_code == 200, asked.text
    again = ada.http.get(f"{hub.url}/hub/oauth_login", allow_redirects=False, timeout=30)
    assert again.status_code == 302


def test_what_a_browser_has_kept_it_may_go_on_using(hub: Hub):
    address = f"{hub.settings.iam.issuer}/static/htmx/htmx.min.js"
    first = requests.get(address, timeout=10)
    assert (first.status_code, first.headers["ETag"][:1]) == (200, '"')
    again = requests.get(address, headers={"If-None-Match": first.headers["ETag"]}, timeout=10)
    assert (again.status_code, again.content) == (304, b"")
