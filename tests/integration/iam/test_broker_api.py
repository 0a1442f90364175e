"""Who gets tokens and credentials from the broker's HTTP API, and who does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from hub_process import Browser, Hub, Provider, a_hub

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hub(provider: Provider) -> Iterator[Hub]:
    yield from a_hub(provider)


@pytest.fixture(scope="module")
def alice(hub: Hub) -> Browser:
    return with_server(hub, "alice")


@pytest.fixture(scope="module")
def bob(hub: Hub) -> Browser:
    return with_server(hub, "bob")


def with_server(hub: Hub, name: str) -> Browser:
    browser = hub.browser()
    browser.log_in(name)
    assert browser.api("POST", f"/users/{name}/server").status_code in {201, 202}
    return browser


def server_token(hub: Hub, name: str) -> str:
    return (hub.state / "server-tokens" / name).read_text()


def ask(
    hub: Hub, token: str | None, path: str = "/token", method: str = "POST", **options: Any
) -> requests.Response:
    headers = {"Authorization": f"token {token}"} if token else {}
    url = f"{hub.url}/hub/api/taccuino{path}"
    return requests.request(method, url, headers=headers, timeout=30, **options)


def test_a_server_gets_its_users_token(hub: Hub, alice: Browser, bob: Browser):
    for name in ("alice", "bob"):
        answer = ask(hub, server_token(hub, name), json={"min_valid_period": 60})
        assert answer.status_code == 200, answer.text
        assert answer.headers["Cache-Control"] == "no-store"
        body = answer.json()
        assert set(body) == {"access_token", "issuer", "expires_at"}
        assert body["issuer"] == hub.provider.issuer
        assert body["expires_at"] > time.time() + 60
        assert hub.provider.valid[body["access_token"]] == name


def test_an_empty_body_will_do(hub: Hub, alice: Browser):
    assert ask(hub, server_token(hub, "alice")).status_code == 200


def test_an_audience_is_asked_of_the_iam(hub: Hub, alice: Browser):
    token = server_token(hub, "alice")
    plain = ask(hub, token).json()["access_token"]
    body = {"audience": "object"}
    first = ask(hub, token, json=body).json()["access_token"]
    assert first == ask(hub, token, json=body).json()["access_token"] != plain
    assert hub.provider.audiences[-1] == "object"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"min_valid_period": -1}',
        b'{"min_valid_period": 1e9}',
        b'{"min_valid_period": 100000}',
        b'{"min_valid_period": "60"}',
        b'{"min_valid_period": true}',
        b'{"audience": 7}',
        b'{"audience": ["a"]}',
        b'{"audience": "a\\nb"}',
        '{"audience": "é"}'.encode(),
        b'{"audience": "' + b"a" * 257 + b'"}',
    ],
)
def test_bodies_that_make_no_sense(hub: Hub, alice: Browser, body: bytes):
    answer = ask(hub, server_token(hub, "alice"), data=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"status", "message"}


@pytest.mark.parametrize("path", ["/token", "/credentials"])
def test_nobody_else_gets_any(hub: Hub, alice: Browser, bob: Browser, path: str):
    own = alice.api("POST", "/users/alice/tokens", json={}).json()["token"]
    scoped = {"scopes": ["custom:taccuino:tokens!user"], "note": "Server at /user/alice/"}
    named = alice.api("POST", "/users/alice/tokens", json=scoped).json()["token"]
    for token in (
        None,
        "forged",
        own,
        named,
        "other-token-of-tests",
        "mount-plane-token-of-tests",
    ):
        answer = ask(hub, token, path)
        assert answer.status_code == 403, (token, answer.text)
        assert "AccessKeyId" not in answer.text
    assert alice.api("POST", f"/taccuino{path}").status_code == 403


def test_a_user_can_not_take_the_mount_planes_or_anothers_scope(hub: Hub, alice: Browser):
    for scope in (
        "custom:taccuino:credentials",
        "custom:taccuino:tokens",
        "custom:taccuino:tokens!user=bob",
        "custom:taccuino:tokens!server=bob/",
        "access:servers!server=bob/",
    ):
        answer = alice.api("POST", "/users/alice/tokens", json={"scopes": [scope]})
        assert answer.status_code == 400, scope


def test_credentials_of_ones_own_and_of_all(hub: Hub, alice: Browser, bob: Browser):
    mine = ask(hub, server_token(hub, "alice"), "/credentials", json={})
    assert mine.json()["AccessKeyId"] == "alice"
    assert set(mine.json()) == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
    for name in ("alice", "bob"):
        answer = ask(hub, "mount-plane-token-of-tests", f"/credentials/{name}", "GET")
        assert (answer.status_code, answer.json()["AccessKeyId"]) == (200, name)
    assert (
        ask(hub, "mount-plane-token-of-tests", "/credentials/nobody", "GET").status_code == 404
    )
    for token in (None, server_token(hub, "alice"), "other-token-of-tests"):
        for name in ("alice", "bob"):
            assert ask(hub, token, f"/credentials/{name}", "GET").status_code == 403


def test_a_crowd_of_calls_causes_one_refresh(hub: Hub, alice: Browser):
    token = server_token(hub, "alice")
    provider = hub.provider
    before = provider.refreshes
    provider.refresh_delay = 0.3
    with ThreadPoolExecutor(20) as crowd:
        answers = list(
            crowd.map(lambda _: ask(hub, token, json={"audience": "crowd"}), range(20))
        )
    provider.refresh_delay = 0
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["access_token"] for answer in answers}) == 1
    assert provider.refreshes == before + 1


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (
            (401, {"error": "unauthorized", "error_description": "User bob is not active."}),
            403,
            "suspended",
        ),
        (
            (
                400,
                {"error": "invalid_grant", "error_description": "User bob needs to sign AUP"},
            ),
            403,
            "usage_policy",
        ),
        ((503, {}), 503, "unreachable"),
    ],
)
def test_a_refusal_is_told_with_its_reason(hub: Hub, error: Any, status: int, reason: str):
    carol = with_server(hub, "carol")
    hub.provider.token_error = error
    try:
        answer = ask(hub, server_token(hub, "carol"), json={"audience": reason})
    finally:
        hub.provider.token_error = None
    assert answer.status_code == status
    assert answer.json()["reason"] == reason
    assert answer.json()["message"].endswith(".")
    carol.log_in("carol")  # a refusal is remembered until the next login
    carol.api("DELETE", "/users/carol/server")


def test_a_stopped_servers_token_is_worth_nothing(hub: Hub):
    carol = with_server(hub, "carol")
    token = server_token(hub, "carol")
    assert ask(hub, token).status_code == 200
    carol.api("DELETE", "/users/carol/server")
    assert ask(hub, token).status_code == 403
