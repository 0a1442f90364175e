from __future__ import annotations

import pytest
from hub_double import HubDouble

from taccuino.server.hub_client import HubClient, HubRefused, HubUnreachable


def test_sends_the_servers_token_in_a_header_only(hub: HubDouble, client: HubClient) -> None:
    hub.answers["/token"] = (200, {"access_token": "a"})
    assert client.post("/token", {"audience": None}) == {"access_token": "a"}
    assert hub.requests == [("/token", {"audience": None}, "token server-token")]


@pytest.mark.parametrize(
    ("status", "answer", "kind", "text"),
    [
        (403, {"message": "sign the policy", "reason": "usage_policy"}, HubRefused, "sign the"),
        (503, {"message": "IAM is down", "reason": "unreachable"}, HubRefused, "IAM is down"),
        (503, {"message": "starting"}, HubUnreachable, "starting"),
        (429, {"message": "slow down"}, HubUnreachable, "slow down"),
        (404, None, HubRefused, "status 404"),
        (400, ["no", "object"], HubRefused, "status 400"),
    ],
)
def test_answers_become_errors_in_the_hubs_words(
    hub: HubDouble, client: HubClient, status: int, answer: object, kind: type, text: str
) -> None:
    hub.answers["/token"] = (status, answer)
    with pytest.raises(kind, match=text):
        client.post("/token", {})


def test_a_hub_that_is_away() -> None:
    with pytest.raises(HubUnreachable, match=r"the hub at 127\.0\.0\.1 does not answer"):
        HubClient("http://127.0.0.1:9/hub/api", "t").get("/servers/notices", timeout=1)
