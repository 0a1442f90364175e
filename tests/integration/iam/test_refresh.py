"""What happens to people who are logged in, in a real hub whose tokens live for seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hub_process import Browser, Hub, Provider, a_hub, wait_for

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    # A hub of its own issuer with a slash, which the settings leave out.
    with Provider(slash=True) as provider:
        yield from a_hub(
            provider,
            extra="c.IAMAuthenticator.auth_refresh_age = 1\nc.IAMAuthenticator.renew_seconds = 2",
            issuer=provider.base,
            allowed_groups=["naas"],
            admin_groups=["/admins"],
        )


@pytest.fixture(autouse=True)
def _mended(hub: Hub) -> Iterator[None]:
    yield
    hub.provider.token_error = hub.provider.userinfo_error = None
    hub.provider.userinfo_changes = {}
    hub.provider.lifetime = 3600


def home(browser: Browser) -> str:
    return browser.page("/hub/home").url


@pytest.fixture
def alice(hub: Hub) -> Browser:
    browser = hub.browser()
    assert browser.log_in("alice").url == f"{hub.url}/hub/home"
    return browser


def test_an_aged_token_is_renewed_again_and_again(hub: Hub, alice: Browser):
    before = hub.provider.refreshes

    def renewed_thrice() -> bool:
        assert home(alice) == f"{hub.url}/hub/home"
        return hub.provider.refreshes >= before + 3

    wait_for(renewed_thrice)
    assert "alice" in hub.provider.grants.values()


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (
            (401, {"error": "unauthorized", "error_description": "User alice is not active."}),
            "suspended",
            "suspended",
        ),
        (
            (
                400,
                {"error": "invalid_grant", "error_description": "User alice needs to sign AUP"},
            ),
            "usage_policy",
            "usage policy",
        ),
        ((400, {"error": "invalid_grant"}), "expired_grant", "expired"),
        ((400, {"error": "invalid_scope"}), "refused", "refused"),
    ],
)
def test_who_is_no_longer_welcome_reads_why_at_the_login_page(
    hub: Hub, alice: Browser, answer: Any, code: str, words: str
):
    hub.provider.token_error = answer
    url = wait_for(lambda: "/login" in home(alice) and home(alice))
    query = parse_qs(urlsplit(url).query)
    assert query == {"reason": [code], "next": ["/hub/home"]}
    assert words in alice.page("/hub/login").text
    refused_start = alice.api("POST", "/users/alice/server")
    assert refused_start.status_code == 403
    hub.provider.token_error = None
    assert alice.log_in("alice").url == f"{hub.url}/hub/home"
    assert home(alice) == f"{hub.url}/hub/home"


def test_a_start_by_token_is_refused_with_the_reason(hub: Hub, alice: Browser):
    made = alice.api("POST", "/users/alice/tokens", json={}).json()
    hub.provider.token_error = (
        400,
        {"error": "invalid_grant", "error_description": "disabled user"},
    )
    wait_for(lambda: "/login" in home(alice))
    script = hub.browser()
    script.headers["Authorization"] = f"token {made['token']}"
    answer = script.post(f"{hub.url}/hub/api/users/alice/server", timeout=30)
    assert answer.status_code == 403
    assert "suspended" in answer.json()["message"]
    assert answer.headers["X-Taccuino-Reason"] == "suspended"


def test_an_outage_of_the_iam_throws_nobody_out(hub: Hub, alice: Browser):
    hub.provider.stop()
    try:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            assert home(alice) == f"{hub.url}/hub/home"
            time.sleep(0.2)
        stranger = hub.browser()
        page = stranger.page(
            "/hub/oauth_login"
        )  # discovery is remembered: the IAM itself fails
        assert page.status_code == 200
    except OSError:
        pass  # the redirect led to the IAM, which is away
    finally:
        hub.provider.restart()
    assert "stays logged in" in hub.read_log()
    assert home(alice) == f"{hub.url}/hub/home"


def test_a_revoked_access_token_is_replaced(hub: Hub, alice: Browser):
    hub.provider.valid.clear()
    before = hub.provider.refreshes
    wait_for(lambda: home(alice) and hub.provider.refreshes > before)
    assert home(alice) == f"{hub.url}/hub/home"


def test_groups_and_admin_status_follow_the_iam(hub: Hub, alice: Browser):
    def model() -> dict[str, Any]:
        return alice.api("GET", "/user").json()

    assert model()["admin"] is False
    hub.provider.userinfo_changes = {"groups": ["/naas", "/admins"]}
    wait_for(lambda: model()["admin"])
    assert set(model()["groups"]) == {"naas", "admins"}
    hub.provider.userinfo_changes = {}
    wait_for(lambda: not model()["admin"])
    assert set(model()["groups"]) == {"naas", "naas/users"}
    hub.provider.userinfo_changes = {"groups": ["elsewhere"]}
    url = wait_for(lambda: "/login" in home(alice) and home(alice))
    assert parse_qs(urlsplit(url).query)["reason"] == ["group"]


def test_the_hub_starts_while_the_iam_is_away_and_says_so():
    with Provider() as provider:
        provider.stop()
        with contextmanager(a_hub)(provider, issuer=provider.base) as hub:
            page = hub.browser().page("/hub/oauth_login?next=/hub/home")
            assert parse_qs(urlsplit(page.url).query)["reason"] == ["unreachable"]
            provider.restart()
            wait_for(lambda: hub.browser().log_in("alice").url == f"{hub.url}/hub/home")
