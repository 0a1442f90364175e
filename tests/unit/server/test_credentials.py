"""Credentials: cached, renewed before their end, fetched once, and kept while the hub is away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hub_double import HubDouble

from taccuino.server.hub_client import HubClient, HubRefused, HubUnreachable
from taccuino.server.sources import CredentialSource, TokenSource

START = 1_900_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class CredentialsOfHub:
    """Numbered credentials with a life in seconds from the clock's time on."""

    def __init__(self, clock: Clock, life: float) -> None:
        self.clock, self.life, self.count = clock, life, 0

    def __call__(self, _body: Any) -> tuple[int, Any]:
        self.count += 1
        end = datetime.fromtimestamp(self.clock.now + self.life, UTC)
        keys = {"AccessKeyId": f"key-{self.count}", "SecretAccessKey": "s", "Token": "t"}
        return 200, {**keys, "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def key(source: CredentialSource) -> str:
    return str(source.credentials(timeout=5)["AccessKeyId"])


def settled(source: CredentialSource) -> None:
    """Wait until no fetch is under way."""
    with source._lock:
        assert source._lock.wait_for(lambda: not source._fetching, 5)


@pytest.mark.parametrize(
    ("life", "asked_after", "renewed"),
    [
        (3600, 60, False),
        (3600, 2300, False),
        (3600, 2500, True),  # 1,100 seconds left: before botocore begins to ask
        (900, 400, False),
        (900, 500, True),  # half of a short life
    ],
)
def test_kept_until_near_their_end(
    hub: HubDouble,
    client: HubClient,
    clock: Clock,
    life: float,
    asked_after: float,
    renewed: bool,
) -> None:
    hub.answers["/credentials"] = answers = CredentialsOfHub(clock, life)
    source = CredentialSource(client, clock)
    assert key(source) == "key-1"
    clock.now += asked_after
    assert key(source) == "key-1"  # at once, from what is at hand
    settled(source)
    assert answers.count == (2 if renewed else 1)
    assert key(source) == ("key-2" if renewed else "key-1")


def test_beyond_their_end_new_ones_are_waited_for(
    hub: HubDouble, client: HubClient, clock: Clock
) -> None:
    hub.answers["/credentials"] = CredentialsOfHub(clock, 900)
    source = CredentialSource(client, clock)
    assert key(source) == "key-1"
    clock.now += 5000
    assert key(source) == "key-2"


def test_many_askers_cost_one_request(hub: HubDouble, client: HubClient, clock: Clock) -> None:
    gate = threading.Event()
    answers = CredentialsOfHub(clock, 3600)

    def slow(body: Any) -> tuple[int, Any]:
        gate.wait(5)
        return answers(body)

    hub.answers["/credentials"] = slow
    source = CredentialSource(client, clock)
    with ThreadPoolExecutor(16) as pool:
        results = [pool.submit(key, source) for _ in range(16)]
        gate.set()
        assert {result.result() for result in results} == {"key-1"}
    assert answers.count == 1


def test_the_hub_away_with_credentials_at_hand(
    hub: HubDouble, client: HubClient, clock: Clock
) -> None:
    hub.answers["/credentials"] = answers = CredentialsOfHub(clock, 3600)
    source = CredentialSource(client, clock)
    assert key(source) == "key-1"
    hub.answers["/credentials"] = (503, {"message": "restarting"})
    clock.now += 3000
    for _ in range(5):  # asked within the pause: the hub is left alone
        assert key(source) == "key-1"
        settled(source)
    assert len(hub.asked("/credentials")) == 2
    clock.now += 601
    with pytest.raises(HubUnreachable, match="restarting"):
        source.credentials(timeout=5)
    hub.answers["/credentials"] = answers
    clock.now += 31
    assert key(source) == "key-2"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            (403, {"message": "Your grant has ended: log in again.", "reason": "x"}),
            "log in again",
        ),
        ((200, {}), "no storage credentials"),
        ((200, {"AccessKeyId": "a", "SecretAccessKey": "b", "Expiration": "soon"}), "'soon'"),
    ],
)
def test_refusals_are_told(
    hub: HubDouble, client: HubClient, clock: Clock, answer: Any, text: str
) -> None:
    hub.answers["/credentials"] = answer
    with pytest.raises(HubRefused, match=text):
        CredentialSource(client, clock).credentials(timeout=5)


def test_tokens_are_asked_for_each_time_and_kept_for_a_hub_that_is_away(
    hub: HubDouble, client: HubClient, clock: Clock
) -> None:
    def token(body: Any) -> tuple[int, Any]:
        name = f"{body['audience']}-{len(hub.asked('/token'))}"
        return 200, {"access_token": name, "issuer": "i", "expires_at": clock.now + 600}

    hub.answers["/token"] = token
    source = TokenSource(client, clock)
    assert source.token(60)["access_token"] == "None-1"
    assert source.token(60)["access_token"] == "None-2"
    hub.answers["/token"] = (502, {"message": "away"})
    assert source.token(60)["access_token"] == "None-2"
    with pytest.raises(HubUnreachable):
        source.token(900)  # not valid that long
    with pytest.raises(HubUnreachable):
        source.token(60, "another-audience")
    clock.now += 599
    with pytest.raises(HubUnreachable):
        source.token(0)
