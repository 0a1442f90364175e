"""Grants: refreshed once, stored before anything else, never lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from provider import CLIENT_ID, CLIENT_SECRET, Provider
from sqlalchemy.exc import OperationalError

from taccuino.iam import Discovery, GrantFailure, TokenBroker
from taccuino.iam.client import IAMClient, TokenRejectedError
from taccuino.iam.grants import AccessToken, Grants, renewed_state, token_in


class StoredUser:
    """JupyterHub's `User`, as far as grants know it: encrypted state that takes a while."""

    def __init__(self, name: str, state: dict[str, Any] | None) -> None:
        self.name = name
        self.encrypted_auth_state = json.dumps(state).encode() if state else None
        self.saves = self.failing_saves = self.rollbacks = 0
        self.db = SimpleNamespace(rollback=self._rollback)

    def _rollback(self) -> None:
        self.rollbacks += 1

    async def get_auth_state(self) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return json.loads(self.encrypted_auth_state) if self.encrypted_auth_state else None

    async def save_auth_state(self, state: dict[str, Any]) -> None:
        await asyncio.sleep(0.001)
        self.saves += 1
        if self.failing_saves:
            self.failing_saves -= 1
            raise OperationalError("UPDATE users", {}, Exception("database is locked"))
        self.encrypted_auth_state = json.dumps(state).encode()

    @property
    def stored(self) -> dict[str, Any]:
        assert self.encrypted_auth_state
        return json.loads(self.encrypted_auth_state)


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def grants(provider: Provider) -> Grants:
    return Grants(IAMClient(Discovery(provider.issuer), CLIENT_ID, CLIENT_SECRET))


def a_user(provider: Provider, ends_in: float = 20, **changes: Any) -> StoredUser:
    """Alice, whose access token is near its end."""
    now = time.time()
    refresh_token = f"first-{len(provider.grants)}"
    provider.grants[refresh_token] = "alice"
    state = {
        "issuer": provider.issuer,
        "sub": "sub-alice",
        "access_token": "old",
        "refresh_token": refresh_token,
        "expires_at": now + ends_in,
        "obtained_at": now - 3600,
        "scope": ["openid"],
        "audiences": {},
    }
    return StoredUser("alice", {**state, **changes})


async def test_a_crowd_causes_one_refresh(provider: Provider, grants: Grants):
    user = a_user(provider)
    provider.refresh_delay = 0.05
    broker = TokenBroker(SimpleNamespace(grants=grants))
    tokens = await asyncio.gather(*(broker.access_token(user) for _ in range(20)))
    assert provider.refreshes == 1
    assert {token.value for token in tokens} == {user.stored["access_token"]}
    assert tokens[0].subject == "sub-alice"
    assert tokens[0].issuer == provider.issuer
    assert tokens[0].expires_at > time.time() + 3000
    await broker.access_token(user)
    assert provider.refreshes == 1


async def test_a_good_token_is_not_refreshed(provider: Provider, grants: Grants):
    user = a_user(provider, ends_in=600)
    token = await grants.token(user, min_valid_seconds=60)
    assert (token.value, provider.refreshes, user.saves) == ("old", 0, 0)


async def test_the_rotated_token_is_stored_and_used_next(provider: Provider, grants: Grants):
    user = a_user(provider)
    before = user.stored["refresh_token"]
    for _ in range(3):
        state = await grants.state(user)
        async with grants.lock(user.name):
            await grants.renew(user, state)
    assert provider.refreshes == 3
    assert user.stored["refresh_token"] not in {before, None}
    assert user.stored["scope"] == ["openid", "profile", "offline_access"]


async def test_a_grant_that_does_not_rotate_keeps_its_token(provider: Provider, grants: Grants):
    provider.rotates = False
    user = a_user(provider)
    before = user.stored["refresh_token"]
    await grants.token(user, min_valid_seconds=60)
    assert user.stored["refresh_token"] == before


async def test_a_cancelled_caller_loses_nothing(provider: Provider, grants: Grants):
    user = a_user(provider)
    provider.refresh_delay = 0.1
    caller = asyncio.create_task(grants.token(user, min_valid_seconds=60))
    assert await asyncio.to_thread(provider.refresh_began.wait, 10)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    token = await grants.token(user, min_valid_seconds=60)
    assert provider.refreshes == 1
    assert user.stored["refresh_token"] in provider.grants
    assert token.value == user.stored["access_token"]


async def test_a_database_that_fails_loses_nothing(provider: Provider, grants: Grants):
    user = a_user(provider)
    user.failing_saves = 1
    token = await grants.token(user, min_valid_seconds=60)
    assert user.rollbacks == 1
    assert user.stored["access_token"] == "old"
    again = await grants.token(user, min_valid_seconds=60)
    assert again == token
    assert provider.refreshes == 1
    assert user.stored["access_token"] == token.value
    assert user.stored["refresh_token"] in provider.grants


async def test_a_login_during_a_refresh_wins(provider: Provider, grants: Grants):
    user = a_user(provider)
    provider.refresh_delay = 0.1
    waiting = asyncio.create_task(grants.token(user, min_valid_seconds=60))
    assert await asyncio.to_thread(provider.refresh_began.wait, 10)
    login = a_user(provider, ends_in=3600, access_token="new").stored
    await user.save_auth_state(login)
    assert (await waiting).value == "new"
    assert user.stored == login


async def test_tokens_for_audiences_are_kept_beside_each_other(
    provider: Provider, grants: Grants
):
    user = a_user(provider, ends_in=1800)
    first = await grants.token(user, min_valid_seconds=60, audience="object")
    assert await grants.token(user, min_valid_seconds=60, audience="object") == first
    other = await grants.token(user, min_valid_seconds=60, audience="compute")
    plain = await grants.token(user, min_valid_seconds=60)
    assert provider.audiences == ["object", "compute"]
    assert len({first.value, other.value, plain.value}) == 3
    assert plain.value == "old"


async def test_more_is_asked_for_than_tokens_live(provider: Provider, grants: Grants):
    user = a_user(provider)
    for _ in range(5):
        await grants.token(user, min_valid_seconds=7200)
    assert provider.refreshes == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((400, {"error": "invalid_grant"}), "expired_grant"),
        (
            (401, {"error": "unauthorized", "error_description": "User a is not active."}),
            "suspended",
        ),
        (
            (400, {"error": "invalid_grant", "error_description": "User a needs to sign AUP"}),
            "usage_policy",
        ),
        ((400, {"error": "invalid_scope"}), "refused"),
        ((503, {}), "unreachable"),
        ((200, {"token_type": "Bearer"}), "refused"),
        ((200, {"access_token": 7}), "refused"),
    ],
)
async def test_a_refusal_has_its_reason_and_is_not_asked_for_again_at_once(
    provider: Provider, grants: Grants, answer: Any, reason: str
):
    user = a_user(provider, ends_in=-1)
    provider.token_error = answer
    for _ in range(3):
        with pytest.raises(GrantFailure) as failure:
            await grants.token(user, min_valid_seconds=60)
        assert failure.value.reason == reason
    assert provider.refreshes == 1
    assert user.saves == 0
    grants.forget(user.name)
    provider.token_error = None
    assert await grants.token(user, min_valid_seconds=60)


async def test_an_outage_lets_a_good_token_be_used_to_its_end(
    provider: Provider, grants: Grants
):
    await grants.client.discovery.document()
    user = a_user(provider, ends_in=30)
    gone = a_user(provider, ends_in=-1)
    provider.stop()
    assert (await grants.token(user, min_valid_seconds=60)).value == "old"
    gone.name = "gone"
    with pytest.raises(GrantFailure) as failure:
        await grants.token(gone, min_valid_seconds=60)
    assert failure.value.reason == "unreachable"


@pytest.mark.parametrize("state", [None, {}, {"access_token": "x"}])
async def test_no_grant_is_an_expired_one(grants: Grants, state: dict | None):
    with pytest.raises(GrantFailure) as failure:
        await grants.token(StoredUser("alice", state), min_valid_seconds=60)
    assert failure.value.reason == "expired_grant"


async def test_a_grant_without_refresh_token_ends_with_its_access_token(
    provider: Provider, grants: Grants
):
    user = a_user(provider, ends_in=1900, refresh_token=None)
    assert (await grants.token(user, min_valid_seconds=60)).value == "old"
    user = a_user(provider, ends_in=-1, refresh_token=None)
    with pytest.raises(GrantFailure, match="no refresh token"):
        await grants.token(user, min_valid_seconds=60)


STATE = {
    "issuer": "i",
    "sub": "s",
    "access_token": "a",
    "refresh_token": "r",
    "obtained_at": 0,
    "expires_at": 3600,
    "audiences": {"x": {"access_token": "ax", "obtained_at": 0, "expires_at": 600}},
}


@pytest.mark.parametrize(
    ("now", "wanted", "audience", "max_age", "value"),
    [
        (0, 60, None, None, "a"),
        (3539, 60, None, None, "a"),
        (3540, 60, None, None, None),
        (3599, 0, None, None, "a"),
        (3600, 0, None, None, None),
        (3601, -5, None, None, None),
        (1799, 7200, None, None, "a"),
        (1800, 7200, None, None, None),
        (299, 60, None, 300, "a"),
        (300, 60, None, 300, None),
        (0, 60, "x", None, "ax"),
        (540, 60, "x", None, None),
        (0, 60, "y", None, None),
    ],
)
def test_which_token_is_good_enough(
    now: float, wanted: float, audience: str | None, max_age: float | None, value: str | None
):
    token = token_in(
        STATE, min_valid_seconds=wanted, audience=audience, now=now, max_age_seconds=max_age
    )
    assert (token.value if token else None) == value


@pytest.mark.parametrize(
    ("expires_in", "expires_at"),
    [(600, 700), ("600", 700), (None, 3700), ("soon", 3700), (-5, 3700), (0, 3700)],
)
def test_lifetimes_as_providers_write_them(expires_in: Any, expires_at: float):
    answer = {"access_token": "b", "expires_in": expires_in}
    renewed = renewed_state(STATE, answer, None, now=100)
    assert renewed["expires_at"] == expires_at
    assert renewed["refresh_token"] == "r"
    assert STATE["access_token"] == "a"


def test_audiences_are_few_and_the_ended_go_first():
    state: dict[str, Any] = STATE
    for number in range(20):
        answer = {"access_token": str(number), "expires_in": 1000 - number}
        state = renewed_state(state, answer, f"a{number}", now=700)
    assert len(state["audiences"]) == 8
    assert "x" not in state["audiences"]
    assert "a19" in state["audiences"]


def test_a_token_does_not_show_in_a_log():
    assert "secret" not in repr(AccessToken("secret", "i", 0, "s"))


@pytest.mark.parametrize("methods", [None, ("client_secret_basic",), ("client_secret_post",)])
async def test_the_client_authenticates_as_the_issuer_wants(
    provider: Provider, grants: Grants, methods: tuple | None
):
    provider.auth_methods = methods
    assert await grants.token(a_user(provider), min_valid_seconds=60)


async def test_error_texts_are_cleaned_of_tokens(provider: Provider, grants: Grants):
    leaked = "eyJhbGciOiJub25lIn0.eyJqdGkiOiIxIn0."
    provider.token_error = (
        401,
        {"error": "invalid_token", "error_description": f"Expired refresh token: {leaked}"},
    )
    with pytest.raises(GrantFailure) as failure:
        await grants.token(a_user(provider), min_valid_seconds=60)
    assert failure.value.reason == "expired_grant"
    assert leaked not in str(failure.value)


async def test_userinfo_tells_a_refused_token_from_an_outage(
    provider: Provider, grants: Grants
):
    with pytest.raises(TokenRejectedError):
        await grants.client.userinfo("unknown")
    provider.userinfo_error = (500, {})
    with pytest.raises(GrantFailure) as failure:
        await grants.client.userinfo("unknown")
    assert failure.value.reason == "unreachable"
