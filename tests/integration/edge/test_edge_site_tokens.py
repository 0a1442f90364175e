"""A program's token, at two sites: only the hub that made it knows it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession
from two_edges import Two, stop_all, who

pytestmark = pytest.mark.integration


async def test_a_token_is_taken_to_the_hub_that_knows_it(
    two: Two, browser: ClientSession
) -> None:
    """With a cookie of another site as without one, whatever is sent."""
    for site in ("bari", "cnaf", "bari"):
        for hub in ("hub bari", "hub cnaf"):
            headers = {"Authorization": f"token {hub}"}
            url = f"{two.url(site)}/hub/api/user"
            assert await who(browser, url, headers=headers) == hub
            async with browser.post(url, headers=headers, data=b"x" * 3000) as answer:
                assert (await answer.json())["name"] == hub
        assert not any(browser.cookie_jar) or site == "bari"
        if site == "cnaf":
            await who(browser, f"{two.url(site)}/hub/home")


@pytest.mark.parametrize("open_to_all", ["", "no-such-call"])
async def test_what_anybody_is_answered_says_nothing_of_a_token(
    two: Two, http: ClientSession, open_to_all: str
) -> None:
    headers = {"Authorization": "token hub bari, which asked for the version first"}
    for _ in range(4):
        async with http.get(f"{two.url('cnaf')}/hub/api/{open_to_all}", headers=headers):
            pass
        assert await who(http, f"{two.url('cnaf')}/hub/api/user", headers=headers) == "hub bari"


async def test_a_token_that_nobody_knows_is_refused(two: Two, http: ClientSession) -> None:
    headers = {"Authorization": "token of nobody"}
    await who(http, f"{two.url('bari')}/hub/api/user", 403, headers=headers)


async def test_a_refusal_of_the_hub_that_knows_the_token_is_final(
    two: Two, http: ClientSession
) -> None:
    for hub in ("bari", "cnaf"):
        headers = {"Authorization": f"token hub {hub}"}
        for site in ("bari", "cnaf"):
            assert await who(http, f"{two.url(site)}/hub/api/user", headers=headers)
            url = f"{two.url(site)}/hub/api/not-yours"
            assert await who(http, url, 403, headers=headers) == f"no, says hub {hub}"
        assert two.edges[hub].hub.refused == 2


async def test_a_program_waits_for_the_hub_that_knows_its_token(
    two: Two, http: ClientSession
) -> None:
    headers = {"Authorization": "token hub bari"}
    for site in ("bari", "cnaf"):
        url = f"{two.url(site)}/hub/api/user"
        assert await who(http, url, headers=headers) == "hub bari"
        await two.edges["bari"].hub.stop()
        request = asyncio.ensure_future(who(http, url, headers=headers))
        await asyncio.sleep(0.4)
        await two.edges["bari"].hub.start()
        assert await request == "hub bari"


async def test_no_token_is_refused_while_a_hub_is_away(two: Two, http: ClientSession) -> None:
    """The one that is away may know it."""
    known = {"Authorization": "token hub bari"}
    for site in ("bari", "cnaf"):
        assert await who(http, f"{two.url(site)}/hub/api/user", headers=known) == "hub bari"
    await stop_all(two.edges["bari"])
    await asyncio.sleep(1.5)
    for headers in (known, {"Authorization": "token hub bari, another"}):
        async with http.get(f"{two.url('cnaf')}/hub/api/user", headers=headers) as answer:
            assert answer.status == 503
            assert (await answer.json())["reason"] == "site_unavailable"
    assert await who(
        http, f"{two.url('cnaf')}/hub/api/user", headers={"Authorization": "token hub cnaf"}
    )


async def test_no_token_is_refused_while_only_the_way_to_a_hub_is_away(
    two: Two, http: ClientSession
) -> None:
    """As after a cut, when the peer's hub was found again and its edge was not yet."""
    url, headers = f"{two.url('cnaf')}/hub/api/user", {"Authorization": "token hub bari, new"}
    runtime = two.runtime("cnaf")
    await runtime.execute(["set server site-bari/bari state maint"])
    async with http.get(url, headers=headers) as answer:
        assert answer.status == 503
        assert (await answer.json())["reason"] == "site_unavailable"
    await runtime.execute(["set server site-bari/bari state ready"])
    assert await who(http, url, headers=headers) == "hub bari"
