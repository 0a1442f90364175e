"""What a site knows of its peers, while they come and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from taccuino.settings import PeerSettings
from taccuino.sites import Peers, ServerState, SiteState
from taccuino.sites.peers import PeerError

CNAF = PeerSettings(name="cnaf", url="http://10.0.0.2:8000", weight=2)


def state(*servers: ServerState, **more: object) -> bytes:
    return (
        SiteState(site="cnaf", version="1", servers=servers, **more).model_dump_json().encode()
    )


def server(user: str = "alice", started: float = 100) -> ServerState:
    return ServerState(user=user, route=f"/user/{user}/", started=started, options={"cpu": 1})


class Answers:
    """Answers in turn, then nothing new for ever; the versions that were known when asked."""

    def __init__(self, *answers: bytes | Exception | None) -> None:
        self.answers, self.known = list(answers), []

    async def __call__(self, peer: PeerSettings, version: str, seconds: float) -> bytes | None:
        self.known.append(version)
        if not self.answers:
            await asyncio.sleep(60)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Told(list[dict[str, str]]):
    """The routes that the edge was told."""

    async def __call__(self, routes: dict[str, str]) -> None:
        self.append(routes)


async def follow(peers: Peers) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(peers.run(), 0.1)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taccuino.sites.peers._PAUSE_SECONDS", 0.0)


async def test_what_a_peer_tells_is_known_and_given_to_the_edge() -> None:
    told = Told()
    peers = Peers([CNAF], Answers(state(server())), told)
    await follow(peers)
    assert told == [{"/user/alice/": "cnaf"}]
    (one,) = peers.servers_of("alice")
    assert (one.site, one.reachable, one.server.options) == ("cnaf", True, {"cpu": 1})
    assert peers.servers_of("bruno") == []
    assert [(place.name, place.weight) for place in peers.places()] == [("cnaf", 2)]


async def test_a_peer_that_is_away_is_remembered_but_takes_no_servers() -> None:
    peers = Peers([CNAF], Answers(state(server()), PeerError("no route")), Told())
    await follow(peers)
    (one,) = peers.servers_of("alice")
    assert not one.reachable
    assert peers.places() == []


async def test_a_peer_that_was_away_is_asked_what_is_not_what_is_new() -> None:
    ask = Answers(state(server()), None, PeerError("no route"), state())
    peers = Peers([CNAF], ask, Told())
    await follow(peers)
    assert ask.known == ["", "1", "1", "", "1"]
    assert peers.servers_of("alice") == []


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>502</html>",
        b"[]",
        SiteState(site="bari", version="1").model_dump_json().encode(),
    ],
)
async def test_an_answer_that_is_none_counts_as_away(answer: bytes) -> None:
    peers = Peers([CNAF], Answers(answer), Told())
    await follow(peers)
    assert not peers.peers["cnaf"].reachable
    assert peers.peers["cnaf"].state is None


async def test_a_fault_of_ours_is_logged_once_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    napoli = PeerSettings(name="napoli", url="http://10.0.0.3:8000")
    known: list[str] = []

    async def ask(peer: PeerSettings, version: str, seconds: float) -> bytes | None:
        known.append(peer.name)
        if known.count("cnaf") > 3 or peer.name == "napoli":
            await asyncio.sleep(60)
        return state(server())

    async def tell(_: dict[str, str]) -> None:
        raise ValueError("no such route")

    peers = Peers([CNAF, napoli], ask, tell)
    await follow(peers)
    assert known.count("cnaf") == 4
    assert [record.message for record in caplog.records if record.exc_info] == [
        "The site cnaf can't be followed"
    ]
    assert not peers.peers["cnaf"].reachable


@pytest.mark.parametrize("more", [{"ready": False}, {"maintenance": {"since": 1}}])
async def test_a_peer_that_is_not_ready_or_in_maintenance_takes_no_servers(more: dict) -> None:
    peers = Peers([CNAF], Answers(state(server(), **more)), Told())
    await follow(peers)
    assert peers.places() == []
    assert peers.servers_of("alice")[0].reachable


async def test_keys_of_a_later_release_are_left_aside() -> None:
    answer = json.dumps({**json.loads(state(server())), "colour": "blue"}).encode()
    peers = Peers([CNAF], Answers(answer), Told())
    await follow(peers)
    assert peers.servers_of("alice")


async def test_the_newest_server_comes_first_and_has_the_route() -> None:
    napoli = PeerSettings(name="napoli", url="http://10.0.0.3:8000")
    told = Told()

    async def ask(peer: PeerSettings, version: str, seconds: float) -> bytes | None:
        if version:
            await asyncio.sleep(60)
        started = {"cnaf": 200, "napoli": 300}[peer.name]
        one = SiteState(site=peer.name, version="1", servers=(server(started=started),))
        return one.model_dump_json().encode()

    peers = Peers([CNAF, napoli], ask, told)
    await follow(peers)
    assert [one.site for one in peers.servers_of("alice")] == ["napoli", "cnaf"]
    assert told[-1] == {"/user/alice/": "napoli"}


async def test_a_hub_that_restarts_knows_what_was_told_before(tmp_path: Path) -> None:
    kept = tmp_path / "peers.json"
    await follow(Peers([CNAF], Answers(state(server())), Told(), kept))
    again = Peers([CNAF], Answers(PeerError("no route")), Told(), kept)
    (one,) = again.servers_of("alice")
    assert (one.site, one.reachable) == ("cnaf", False)


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '[{"site": 1}]'])
def test_a_file_that_is_not_understood_is_left_aside(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "peers.json"
    kept.write_text(text)
    assert Peers([CNAF], Answers(), Told(), kept).servers_of("alice") == []
