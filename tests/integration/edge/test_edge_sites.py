"""Two edges with their hubs: whichever one a request enters by, it goes where it belongs."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import ClientSession, TCPConnector
from two_edges import QUICK, SECRET, SERVERS, Two, stop_all, who

from taccuino.edge import RELOAD_SIGNAL, PeerMap, reload
from taccuino.edge.sites import EDGE_PATH, PEER_HEADER, SHARED_FILES

pytestmark = pytest.mark.integration

SERVER_LOGIN = "/hub/api/oauth2/authorize?client_id=jupyterhub-user-"
SLOW = {"check_seconds": 4, "fall": 9, "rise": 1}


async def test_a_server_is_reached_by_either_edge(two: Two, http: ClientSession) -> None:
    await two.run_server("bari", "alice")
    for site in ("bari", "cnaf"):
        assert await who(http, f"{two.url(site)}/user/alice/lab") == "alice at bari"
        async with http.ws_connect(f"{two.url(site)}/user/alice/ws") as socket:
            await socket.send_str("hello")
            assert await socket.receive_str() == "alice at bari: hello"


async def test_a_server_that_nobody_told_of_is_looked_for_at_the_peer(
    two: Two, http: ClientSession
) -> None:
    server = await two.edges["bari"].upstream("new")
    await two.edges["bari"].routes().add_route("/user/bruno/", server.url, {"user": "bruno"})
    assert await who(http, f"{two.url('cnaf')}/user/bruno/api") == "new"


async def test_a_browser_stays_at_the_site_that_it_was_served_by(
    two: Two, browser: ClientSession
) -> None:
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    assert {c.key: c.value for c in browser.cookie_jar} == {"taccuino-site": "bari"}
    assert await who(browser, f"{two.url('cnaf')}/hub/home") == "hub bari"


async def test_what_a_notebook_server_asks_is_its_own_hubs_to_answer(two: Two) -> None:
    """A peer's does not know its token, and would refuse it."""
    connector = TCPConnector(local_addr=(str(SERVERS[1]), 0))
    async with ClientSession(connector=connector) as http:
        url, token = f"{two.url('bari')}/hub/api/user", {"Authorization": "token hub bari"}
        assert await who(http, url, headers=token) == "hub bari"
        await two.edges["bari"].hub.stop()
        request = asyncio.ensure_future(who(http, url, headers=token))
        await asyncio.sleep(4)
        assert not request.done()
        await two.edges["bari"].hub.start()
        assert await request == "hub bari"


async def test_a_server_that_is_gone_is_told_of_by_the_hub_that_one_is_at(
    two: Two, http: ClientSession
) -> None:
    """As after a whole site was lost and came back: its edge is up first, with its routes."""
    server = await two.run_server("bari", "alice")
    await server.stop()
    began = time.monotonic()
    assert await who(http, f"{two.url('cnaf')}/user/alice/lab") == "hub cnaf"
    assert time.monotonic() - began < 5
    async with http.post(f"{two.url('cnaf')}/user/alice/api/kernels") as answer:
        assert answer.status == 503, "what is no reading is not repeated"
    async with http.get(f"{two.url('bari')}/user/alice/lab") as answer:
        assert answer.status == 503


async def test_what_a_page_saves_while_its_site_is_away_is_not_forbidden(
    two: Two, http: ClientSession
) -> None:
    """The hub that stands in knows nothing of the server's XSRF cookie, and says 403."""
    await two.run_server("bari", "alice")
    await stop_all(two.edges["bari"])
    await asyncio.sleep(1.5)
    for user in ("alice", "nobody"):
        url = f"{two.url('cnaf')}/user/{user}/api/contents/file"
        async with http.post(url, data=b"x") as answer:
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert (await answer.json())["reason"] == "server_unreachable"
    await two.run_server("cnaf", "bruno")
    async with http.post(f"{two.url('cnaf')}/user/bruno/refused") as answer:
        assert answer.status == 403, "a server's own refusal is its own"


async def test_a_login_ends_at_the_hub_where_it_began(two: Two, browser: ClientSession) -> None:
    """Though it can start no servers: those that run there are its users' all the same."""
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    two.edges["bari"].hub.healthy = False
    await asyncio.sleep(1.5)
    for site in ("bari", "cnaf"):
        for page in ("login", "oauth_login", "oauth_callback"):
            assert await who(browser, f"{two.url(site)}/hub/{page}") == "hub bari"
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub cnaf"


@pytest.mark.parametrize(
    "two", [{"check_seconds": 2, "fall": 1, "rise": 3}], indirect=True, ids=["slow checks"]
)
async def test_a_login_ends_at_a_hub_that_is_just_back(
    two: Two, browser: ClientSession
) -> None:
    """It is that hub which sent to the login: another one's would lead there and back."""
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    hub = two.edges["bari"].hub
    await hub.stop()
    await asyncio.sleep(5)
    await hub.start()
    await asyncio.sleep(0.6)
    for site in ("bari", "cnaf"):
        assert await who(browser, f"{two.url(site)}/hub/login") == "hub bari"


async def test_a_lost_site_is_stood_in_for_and_told(two: Two, browser: ClientSession) -> None:
    await two.run_server("bari", "alice")
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    await stop_all(two.edges["bari"])
    began = time.monotonic()
    assert await who(browser, f"{two.url('cnaf')}/user/alice/lab") == "hub cnaf"
    assert time.monotonic() - began < 5
    cookies = {c.key: c.value for c in browser.cookie_jar}
    assert cookies == {"taccuino-site": "cnaf", "taccuino-from": "bari"}


async def test_a_hub_that_restarts_is_waited_for(two: Two, browser: ClientSession) -> None:
    hub = two.edges["bari"].hub
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    await hub.stop()
    request = asyncio.ensure_future(who(browser, f"{two.url('bari')}/hub/home"))
    await asyncio.sleep(0.4)
    await hub.start()
    assert await request == "hub bari"


async def test_a_pages_call_waits_for_its_own_hub(two: Two, browser: ClientSession) -> None:
    """To a peer's hub, it comes from nobody: a page that was told so would give up."""
    hub, url = two.edges["bari"].hub, f"{two.url('bari')}/hub/api/users/alice"
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    await hub.stop()
    request = asyncio.ensure_future(who(browser, url))
    await asyncio.sleep(4)
    await hub.start()
    assert await request == "hub bari"


async def test_the_servers_of_a_site_without_a_hub_go_on(two: Two, http: ClientSession) -> None:
    await two.run_server("bari", "alice")
    await two.edges["bari"].hub.stop()
    await asyncio.sleep(2)
    for site in ("bari", "cnaf"):
        assert await who(http, f"{two.url(site)}/user/alice/lab") == "alice at bari"
        assert await who(http, f"{two.url(site)}/hub/home") == "hub cnaf"


async def test_one_wrong_answer_takes_nobody_out(two: Two, browser: ClientSession) -> None:
    hub = two.edges["bari"].hub
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    hub.healthy = False
    await asyncio.sleep(0.25)
    hub.healthy = True
    for _ in range(10):
        assert await who(browser, f"{two.url('cnaf')}/hub/home") == "hub bari"
        await asyncio.sleep(0.1)


async def test_the_last_site_is_never_taken_out(two: Two, http: ClientSession) -> None:
    for edge in two.edges.values():
        edge.hub.healthy = False
    await asyncio.sleep(2)
    for site in ("bari", "cnaf"):
        assert await who(http, f"{two.url(site)}/hub/home") == f"hub {site}"


async def test_with_servers_at_both_sites_the_browsers_site_decides(
    two: Two, browser: ClientSession, http: ClientSession
) -> None:
    await two.run_server("bari", "alice")
    await two.run_server("cnaf", "alice")
    for site in ("bari", "cnaf"):
        assert await who(http, f"{two.url(site)}/user/alice/lab") == f"alice at {site}"
    assert await who(browser, f"{two.url('bari')}/hub/home") == "hub bari"
    for site in ("bari", "cnaf"):
        assert await who(browser, f"{two.url(site)}/user/alice/lab") == "alice at bari"
        assert await who(browser, f"{two.url(site)}{SERVER_LOGIN}alice") == "hub bari"


async def test_a_servers_login_is_at_its_own_site(two: Two, http: ClientSession) -> None:
    """Wherever the browser is: another hub can let nobody in there."""
    await two.run_server("bari", "al@b")
    for site in ("bari", "cnaf"):
        login = f"{two.url(site)}{SERVER_LOGIN}al%2540b"
        assert await who(http, login) == "hub bari"
        async with ClientSession(cookies={"taccuino-site": "cnaf"}) as browser:
            assert await who(browser, login) == "hub bari"


@pytest.mark.parametrize("two", [SLOW, QUICK], indirect=True, ids=["not known yet", "known"])
@pytest.mark.parametrize("page", [f"{SERVER_LOGIN}alice", "/hub/home"])
async def test_a_hub_that_stays_away_is_stood_in_for(two: Two, page: str) -> None:
    """By either edge, also before it is known to be away; its servers run on."""
    await two.run_server("bari", "alice")
    await two.edges["bari"].hub.stop()
    if two.edges["cnaf"].settings.sites.check_seconds < 1:
        await asyncio.sleep(2)
    for site in ("bari", "cnaf"):
        began = time.monotonic()
        async with ClientSession(cookies={"taccuino-site": "bari"}) as browser:
            assert await who(browser, f"{two.url(site)}{page}") == "hub cnaf"
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("back", ["bari", "cnaf"])
async def test_while_all_hubs_are_away_pages_wait(two: Two, back: str) -> None:
    """Nothing goes round, and the first hub that is back answers."""
    for edge in two.edges.values():
        await edge.hub.stop()
    requests = []
    async with ClientSession(cookies={"taccuino-site": "bari"}) as browser:
        for site in ("bari", "cnaf"):
            url = f"{two.url(site)}/hub/home"
            requests.append(asyncio.ensure_future(who(browser, url)))
        await asyncio.sleep(8)
        assert not any(request.done() for request in requests)
        await two.edges[back].hub.start()
        assert await asyncio.gather(*requests) == [f"hub {back}"] * 2


async def test_how_a_site_is_is_answered_at_once(two: Two, http: ClientSession) -> None:
    """Its peers ask it, and what watches the service."""
    await two.edges["bari"].hub.stop()
    for page in ("ready", "health"):
        began = time.monotonic()
        async with http.get(f"{two.url('bari')}/hub/{page}") as answer:
            assert answer.status == 503
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("two", [SLOW], indirect=True, ids=["slow checks"])
async def test_a_form_that_was_passed_on_waits_for_its_hub(two: Two) -> None:
    """What changes something is done once, and by nobody else."""
    hub = two.edges["bari"].hub
    await hub.stop()
    async with ClientSession(cookies={"taccuino-site": "bari"}) as browser:
        request = asyncio.ensure_future(browser.post(f"{two.url('cnaf')}/hub/spawn"))
        await asyncio.sleep(6)
        await hub.start()
        async with await request as answer:
            assert (await answer.json())["name"] == "hub bari"


async def test_a_shared_file_is_at_the_site_that_its_link_names(two: Two) -> None:
    """Whoever follows it, with a cookie of any site or none."""
    for site in ("bari", "cnaf"):
        pages = await two.edges[site].upstream(f"pages at {site}")
        await two.edges[site].routes().add_route("/services/storage/", pages.url, {})
    for entry in ("bari", "cnaf"):
        for cookies in ({}, {"taccuino-site": "bari"}, {"taccuino-site": "cnaf"}):
            async with ClientSession(cookies=cookies) as browser:
                for site in ("bari", "cnaf"):
                    url = f"{two.url(entry)}{SHARED_FILES}{site}/{'x' * 32}"
                    assert await who(browser, url) == f"pages at {site}"


@pytest.mark.parametrize("two", [SLOW, QUICK], indirect=True, ids=["not known yet", "known"])
async def test_a_shared_file_of_a_site_that_is_away(two: Two, http: ClientSession) -> None:
    """No hub is asked, which would say that there is no such page."""
    pages = await two.edges["cnaf"].upstream("pages at cnaf")
    await two.edges["cnaf"].routes().add_route("/services/storage/", pages.url, {})
    url = f"{two.url('cnaf')}{SHARED_FILES}bari/{'x' * 32}"
    await stop_all(two.edges["bari"])
    if two.edges["cnaf"].settings.sites.check_seconds > 1:
        async with http.get(url) as answer:
            assert answer.status == 503
            assert answer.headers["Refresh"]
    else:
        await asyncio.sleep(1.5)
        assert await who(http, url) == "pages at cnaf", "they say that bari is away"


async def test_nobody_passes_for_a_peer(two: Two, http: ClientSession) -> None:
    """Nor learns the secret: no notebook server sees it."""
    await two.run_server("bari", "alice")
    for site in ("bari", "cnaf"):
        forged = {PEER_HEADER: "wrong", "X-Forwarded-For": "6.6.6.6"}
        async with http.get(f"{two.url(site)}/user/alice/lab", headers=forged) as answer:
            seen = dict((await answer.json())["headers"])
        assert PEER_HEADER.lower() not in seen
        assert seen["x-forwarded-for"] == "127.0.0.1"
        assert SECRET not in str(seen)


async def test_a_site_answers_for_itself(two: Two, http: ClientSession) -> None:
    two.edges["bari"].hub.healthy = False
    await asyncio.sleep(2)
    async with http.get(f"{two.url('bari')}/hub/ready") as answer:
        assert answer.status == 503
    async with http.get(f"{two.url('bari')}{EDGE_PATH}") as answer:
        assert await answer.text() == "bari"


async def test_a_reload_loses_no_news_of_the_peers(two: Two, http: ClientSession) -> None:
    """Not what was written after the new worker had read, nor what was told to the old one."""
    await two.run_server("bari", "alice")
    cnaf = two.edges["cnaf"]
    told = PeerMap(cnaf.settings.edge.peers_file, cnaf.settings.edge.admin_socket)
    routes = {"/user/alice/": "bari"}
    await told.set(routes)
    cnaf.settings.edge.peers_file.write_text("/user/bruno/ bari\n")
    await reload(cnaf.settings, lambda: cnaf.process.send_signal(RELOAD_SIGNAL))
    await told.set(routes)
    assert await two.peers("cnaf") == routes
    other = PeerMap(cnaf.settings.edge.peers_file, cnaf.settings.edge.admin_socket)
    await two.runtime("cnaf").put(
        str(cnaf.settings.edge.peers_file), {"/user/alice/": "x", "/user/bruno/": "x"}
    )
    await other.reread()
    assert await two.peers("cnaf") == routes
