from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

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
    first = (await board.page())["notices"]
    assert [(item["level"], item["banner"]) for item in first] == [
        ("error", True),
        ("warning", False),
    ]
    kills[0] = 5  # those before the server's start are not its
    killed = (await board.page())["notices"][-1]
    assert "A process of yours was killed because the memory limit of 2G" in killed["message"]
    kills[0] = 6
    again = (await board.page())["notices"][-1]
    assert again["message"].startswith("2 processes")
    assert again["id"] != killed["id"]  # so that it is shown again


async def test_the_hubs_notices_are_in_the_first_answer(
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
    # Also those of the hub are in the first answer, for which it is waited.
    seen = {item["id"]: item for item in (await board.page())["notices"]}
    assert set(seen) == {"storage-fault-0", "hub-idle-1", "hub-storage-1", "hub-odd"}
    assert (seen["hub-idle-1"]["keepalive"], seen["hub-idle-1"]["banner"]) == (True, False)
    assert (seen["hub-storage-1"]["keepalive"], seen["hub-storage-1"]["banner"]) == (
        False,
        True,
    )
    assert seen["hub-odd"]["level"] == "info"
    await board.page()
    assert len(hub.requests) == 1  # the second look was within the interval


@pytest.mark.parametrize(("known", "told"), [(4, []), (None, ["hub-oom-1"])])
async def test_memory_is_told_once(
    hub: HubDouble, kills: list[int | None], known: int | None, told: list[str]
) -> None:
    kills[0] = known
    killed = {"id": "oom-1", "level": "warning", "message": "A process was ended."}
    hub.answers["/servers/notices"] = (200, {"notices": [killed]})
    board = NoticeBoard(contract(hub))
    assert [item["id"] for item in (await board.page())["notices"]] == told


async def test_a_hub_that_is_away_leaves_what_it_said(hub: HubDouble, kills: list[int]) -> None:
    told = [{"id": "idle-1", "level": "warning", "message": "stops"}]
    hub.answers["/servers/notices"] = (200, {"notices": told})
    board = NoticeBoard(contract(hub))
    await board.page()
    hub.answers["/servers/notices"] = (503, {})
    board._asked -= 60
    await board.page()
    assert board._task is not None
    await asyncio.wait_for(board._task, 5)
    assert [item["id"] for item in (await board.page())["notices"]] == ["hub-idle-1"]


async def test_the_mount_planes_file_says_it_before_the_hub(
    hub: HubDouble, kills: list[int], tmp_path: Path
) -> None:
    hub.answers["/servers/notices"] = (
        200,
        {
            "notices": [
                {"id": "storage-1", "level": "error", "message": "It can't be reached."},
                {"id": "upload-1", "level": "error", "message": "x: no."},
                {"id": "uploads-pending", "level": "info", "message": "500 files"},
                {"id": "idle-1", "level": "warning", "message": "stops"},
            ],
            "storage": {"used_bytes": 3, "quota_bytes": 4},
        },
    )
    status = tmp_path / "cloud_storage/.taccuino/status.json"
    status.parent.mkdir(parents=True)
    status.write_text(json.dumps({"state": "mounted", "fault": "It can't be reached."}))
    faults = '["It can\'t be reached."]'
    board = NoticeBoard(
        contract(hub, JUPYTERHUB_ROOT_DIR=str(tmp_path), TACCUINO_STORAGE_FAULTS=faults)
    )
    page = await board.page()
    assert [item["id"].partition("-")[0] for item in page["notices"]] == ["storage", "hub"]
    assert page["storage"]["away"]
    assert (page["storage"]["used_bytes"], page["storage"]["quota_bytes"]) == (3, 4)
    status.write_text(json.dumps({"state": "mounted", "fault": None, "uploads_pending": 2}))
    page = await board.page()
    # What the start said is over as well.
    assert [item["id"] for item in page["notices"]] == ["hub-idle-1"]
    assert page["storage"]["uploads_pending"] == 2


async def test_a_hub_that_hangs_holds_the_first_answer_up_shortly(
    kills: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_HUB_PATIENCE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/hub/api"
        board = NoticeBoard(Contract({"JUPYTERHUB_API_URL": url, "JUPYTERHUB_API_TOKEN": "t"}))
        page = await asyncio.wait_for(board.page(), 3)
        assert page["notices"] == []
        assert not page["storage"]["known"]
