"""Logins and gates in a real hub against a real provider."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hub_process import Hub, Provider, a_hub

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def hub(provider: Provider) -> Iterator[Hub]:
    yield from a_hub(
        provider,
        allowed_groups=["/naas"],
        admin_groups=["admins"],
        contact="help@example.org",
        refresh_seconds=3600,
    )


@pytest.fixture(autouse=True)
def _mended(provider: Provider) -> Iterator[None]:
    yield
    provider.authorize_error = provider.token_error = provider.userinfo_error = None
    provider.id_token_changes = {}
    provider.userinfo_changes = {}
    provider.id_token_dropped = provider.forged = provider.slash = False
    provider.id_token_groups = True
    provider.users["alice"]["sub"] = "sub-alice"


def user_model(hub: Hub, name: str) -> dict[str, Any]:
    browser = hub.browser()
    browser.log_in("carol")
    return browser.api("GET", f"/users/{name}").json()


def test_a_member_logs_in_with_pkce_state_and_nonce(hub: Hub):
    browser = hub.browser()
    page = browser.log_in("alice")
    assert page.status_code == 200, hub.read_log()[-3000:]
    assert page.url == f"{hub.url}/hub/home"
    asked = parse_qs(urlsplit(page.history[1].url).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{hub.url}/hub/oauth_callback"]
    assert asked["response_type"] == ["code"]
    assert "openid" in asked["scope"][0].split()
    assert len(asked["nonce"][0]) > 30
    assert (
        asked["nonce"]
        != parse_qs(urlsplit(hub.browser().log_in("alice").history[1].url).query)["nonce"]
    )


def test_groups_are_kept_without_slashes_and_say_who_is_admin(hub: Hub):
    for user in ("alice", "bob"):
        assert hub.browser().log_in(user).status_code == 200
    alice, bob, carol = (user_model(hub, name) for name in ("alice", "bob", "carol"))
    assert set(alice["groups"]) == {"naas", "naas/users"}
    assert bob["groups"] == ["naas"]
    assert (alice["admin"], bob["admin"], carol["admin"]) == (False, False, True)


def test_who_is_in_no_allowed_group_reads_why(hub: Hub):
    page = hub.browser().log_in("mallory")
    assert page.status_code == 403
    for words in ("Test Institute", "mallory", "not in any", "naas", "help@example.org"):
        assert words in page.text


def test_the_secrets_are_not_readable_in_the_database_or_the_log(hub: Hub):
    assert hub.browser().log_in("alice").status_code == 200
    with sqlite3.connect(hub.state / "hub.sqlite") as database:
        rows = database.execute("SELECT encrypted_auth_state FROM users").fetchall()
    stored = b"".join(row[0] or b"" for row in rows)
    tokens = [*hub.provider.grants, *hub.provider.valid]
    assert stored
    assert not any(token.encode() in stored for token in tokens)
    assert not any(token in hub.read_log() for token in [*tokens, "provider-secret"])
    key = hub.state / "secrets/hub-crypt-key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_a_state_that_is_not_this_browsers_is_refused(hub: Hub):
    browser = hub.browser()
    hub.provider.login_as = "alice"
    to_iam = browser.page("/hub/oauth_login", allow_redirects=False).headers["Location"]
    back = browser.get(to_iam, allow_redirects=False).headers["Location"]
    victim = hub.browser()
    assert victim.get(back).status_code == 400
    victim.page("/hub/oauth_login", allow_redirects=False)
    page = victim.get(back)
    assert page.status_code == 400
    assert "begun in another browser" in page.text
    assert "/hub/home" not in victim.page("/hub/home").url
    hub.provider.answers_as = "https://evil.example.org"
    assert victim.log_in("alice").status_code == 400
    hub.provider.answers_as = None
    for state in ("", "e30=", "bnVsbA==", "W10=", "!!"):
        assert browser.page(f"/hub/oauth_callback?code=x&state={state}").status_code == 400


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"id_token_changes": {"nonce": "replayed"}}, "nonce"),
        ({"id_token_changes": {"aud": "another-client"}}, "meant for"),
        ({"id_token_changes": {"iss": "https://evil.example.org"}}, "comes from"),
        ({"id_token_changes": {"exp": 1}}, "expired"),
        ({"forged": True}, "signature does not hold"),
        ({"id_token_dropped": True}, "no ID token"),
        ({"userinfo_changes": {"sub": "sub-bob"}}, "somebody else"),
        ({"id_token_changes": {"preferred_username": "../../etc"}}, "can&#39;t be used here"),
        ({"id_token_changes": {"preferred_username": "scratch"}}, "reserved"),
    ],
)
def test_answers_that_can_not_be_trusted(hub: Hub, wrong: dict[str, Any], words: str):
    for name, value in wrong.items():
        setattr(hub.provider, name, value)
    browser = hub.browser()
    page = browser.log_in("alice")
    assert page.status_code == 403
    assert words in page.text
    assert "/login" in browser.page("/hub/home").url


def test_a_second_account_of_the_same_name_does_not_get_the_first_ones_files(hub: Hub):
    assert hub.browser().log_in("alice").status_code == 200
    hub.provider.users["alice"]["sub"] = "sub-of-another-alice"
    page = hub.browser().log_in("alice")
    assert page.status_code == 403
    assert "belongs to another account" in page.text


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"error": "access_denied"}, "consent_denied"),
        ({"error": "invalid_grant", "error_description": "User disabled"}, "suspended"),
        ({"error": "server_error"}, "unreachable"),
    ],
)
def test_what_the_iam_says_instead_of_a_code(hub: Hub, error: dict[str, str], code: str):
    hub.provider.authorize_error = error
    page = hub.browser().log_in("alice")
    assert page.status_code == 200
    assert parse_qs(urlsplit(page.url).query) == {"reason": [code]}


def test_a_token_endpoint_that_refuses(hub: Hub):
    text = "User alice needs to sign AUP for this organization in order to proceed."
    hub.provider.token_error = (400, {"error": "invalid_grant", "error_description": text})
    assert hub.browser().log_in("alice").url.endswith("/hub/login?reason=usage_policy")


def test_indigo_has_name_and_groups_in_userinfo_only(hub: Hub):
    hub.provider.id_token_groups = False
    browser = hub.browser()
    assert browser.log_in("alice").url == f"{hub.url}/hub/home"
    assert set(user_model(hub, "alice")["groups"]) == {"naas", "naas/users"}


def test_where_a_login_leads_to_stays_here(hub: Hub):
    browser = hub.browser()
    hub.provider.login_as = "alice"
    page = browser.page("/hub/oauth_login?next=https%3A%2F%2Fevil.example.org%2Fhub%2Ftoken")
    assert page.url == f"{hub.url}/hub/token"


def test_logout_ends_the_session_and_offers_the_iams(hub: Hub):
    browser = hub.browser()
    browser.log_in("alice")
    page = browser.page("/hub/logout")
    assert page.status_code == 200
    assert "/login" in browser.page("/hub/home").url
    offered = html.unescape(page.text)
    assert f"{hub.provider.base}/end_session?client_id=taccuino" in offered
    assert "id_token_hint" not in offered
    assert "Test Institute" in offered


def test_the_login_outlives_the_hub_process(hub: Hub):
    browser = hub.browser()
    browser.log_in("alice")
    began = hub.browser()
    hub.provider.login_as = "bob"
    to_iam = began.page("/hub/oauth_login?next=/hub/home", allow_redirects=False).headers[
        "Location"
    ]
    hub.stop()
    hub.start()
    assert browser.page("/hub/home").url == f"{hub.url}/hub/home"
    page = began.get(to_iam)
    assert page.url == f"{hub.url}/hub/home", hub.read_log()[-3000:]
    assert "bob" in page.text


def test_a_state_that_was_tampered_with(hub: Hub):
    browser = hub.browser()
    to_iam = browser.page("/hub/oauth_login", allow_redirects=False).headers["Location"]
    state = parse_qs(urlsplit(to_iam).query)["state"][0]
    known = json.loads(base64.urlsafe_b64decode(state))
    assert set(known) == {"state_id"}
