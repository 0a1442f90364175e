from __future__ import annotations

import asyncio

import pytest
from hub_double import HubDouble

from taccuino.server import notices
from taccuino.server.contract import Contract
from taccuino.server.notices import NoticeBoard


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    count = [4]
    monkeypatch.setattr(notices, "memory_kills", lambda: count[0])
    monkeypatch.setattr(notices, "workarea_warning", lambda _path: None)
    return count


def contract(hub: HubDouble | None = None, **more: str) -> Contract:
    known = {"JUPYTERHUB_API_URL": hub.url, "JUPYTERHUB_API_TOKEN": "t"} if hub else {}
    return Contract(known | more)


async def test_the_servers_own_notices(kills: list[int]) -> None:
    faults = '["Your storage could not be mounted."]'
    board = NoticeBoard(
        contract(TACCUINO_STORAGE_FAULTS=faults, MEM_LIMIT="2147483648"), "The disk is full."
    )
    first = board.notices()
    assert [(item["level"], item["banner"]) for item in first] == [
        ("error", True),
        ("warning", False),
    ]
    kills[0] = 5  # those before the server's start are not its
    killed = board.notices()[-1]
    assert "A process of yours was killed because the memory limit of 2G" in killed["message"]
    kills[0] = 6
    again = board.notices()[-1]
    assert again["message"].startswith("2 processes")
    assert again["id"] != killed["id"]  # so that it is shown again


async def test_the_hubs_notices_come_in_the_background(
    hub: HubDouble, kills: list[int]
) -> None:
    told = [
        {"id": "idle-1", "level": "warning", "message": "stops in 5 minutes"},
        {"id": "storage-1", "level": "error", "message": "not there"},
        {"id": "odd", "level": "shout", "message": "hm"},
        {"id": "storage-2", "level": "error", "message": "said already"},
        "no notice",
    ]
    hub.answers["/servers/notices"] = (200, {"notices": told})
    board = NoticeBoard(contract(hub, TACCUINO_STORAGE_FAULTS='["said already"]'))
    assert len(board.notices()) == 1
    assert board._task is not None
    await asyncio.wait_for(board._task, 5)
    seen = {item["id"]: item for item in board.notices()}
    assert set(seen) == {"storage-fault-0", "hub-idle-1", "hub-storage-1", "hub-odd"}
    assert (seen["hub-idle-1"]["keepalive"], seen["hub-idle-1"]["banner"]) == (True, False)
    assert (seen["hub-storage-1"]["keepalive"], seen["hub-storage-1"]["banner"]) == (
        False,
        True,
    )
    assert seen["hub-odd"]["level"] == "info"
    assert len(hub.requests) == 1  # the second look was within the interval


@pytest.mark.parametrize(("known", "told"), [(4, []), (None, ["hub-oom-1"])])
async def test_memory_is_told_once(
    hub: HubDouble, kills: list[int | None], known: int | None, told: list[str]
) -> None:
    kills[0] = known
    killed = {"id": "oom-1", "level": "warning", "message": "A process was ended."}
    hub.answers["/servers/notices"] = (200, {"notices": [killed]})
    board = NoticeBoard(contract(hub))
    board.notices()
    assert board._task is not None
    await asyncio.wait_for(board._task, 5)
    assert [item["id"] for item in board.notices()] == told


async def test_a_hub_that_is_away_leaves_what_it_said(hub: HubDouble, kills: list[int]) -> None:
    told = [{"id": "idle-1", "level": "warning", "message": "stops"}]
    hub.answers["/servers/notices"] = (200, {"notices": told})
    board = NoticeBoard(contract(hub))
    board.notices()
    assert board._task is not None
    await asyncio.wait_for(board._task, 5)
    hub.answers["/servers/notices"] = (503, {})
    board._asked -= 60
    board.notices()
    await asyncio.wait_for(board._task, 5)
    assert [item["id"] for item in board.notices()] == ["hub-idle-1"]
