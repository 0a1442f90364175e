"""What a user should know while they work in a notebook server.

A storage that is away, a file that can't be uploaded, a process that was killed for memory, a
workarea nearly full, a server that is about to be stopped for being idle. ``extension`` serves
them, ``labextension`` shows them.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .contract import Contract
from .file_calls import FileCalls, NoAnswer
from .hub_client import HubClient, HubRefused, HubUnreachable
from .limits import memory_kills, size_in_words, workarea_warning
from .status_file import STATUS_FILE, MountReport, StatusFile
from .storage_notices import FROM_THE_STATUS_FILE, notice, storage_notices, storage_summary

__all__ = ["NoticeBoard"]

_HUB_INTERVAL = 20.0  # seconds; the hub is asked only while a browser asks here
_HUB_PATIENCE = 0.7  # seconds that the first answer of the hub is waited for
_FILE_PATIENCE = 1.0


class NoticeBoard:
    """Collects the notices; asks the hub in the background."""

    def __init__(self, contract: Contract, workarea_faults: str = "") -> None:
        self._contract = contract
        self._hub = (
            HubClient(contract.hub_api_url, contract.hub_token) if contract.has_hub else None
        )
        self._workarea_faults = [line for line in workarea_faults.splitlines() if line]
        self._status = StatusFile(Path(contract.workarea, STATUS_FILE))
        # Nothing here is on a mount of the object storage; the limit is for the unforeseen.
        self._files = FileCalls(room=4)
        self._from_hub: list[dict[str, Any]] = []
        self._usage: dict[str, Any] = {}
        self._asked = -_HUB_INTERVAL
        self._task: asyncio.Task[None] | None = None
        kills = memory_kills()
        self._kills_before = kills or 0
        # What the hub says too, and is not said twice.
        self._own_topics = () if kills is None else ("oom-",)

    async def page(self) -> dict[str, Any]:
        """``notices``, ``storage`` (`storage_summary`) and where the storage pages are.

        Those of the hub are up to half a minute old; the first answer waits for them shortly.
        """
        first = self._task is None
        self._ask_hub()
        if first and self._task is not None:
            await asyncio.wait([self._task], timeout=_HUB_PATIENCE)
        try:
            report, full = await self._files.run(self._look, _FILE_PATIENCE)
        except NoAnswer:
            report, full = None, None
        return {
            "notices": self._notices(report, full),
            "storage": storage_summary(report, self._usage, self._contract.username),
            "pages": f"{self._contract.hub_base_url}services/storage/",
        }

    def _look(self) -> tuple[MountReport | None, str | None]:
        return self._status.read(), workarea_warning(self._contract.workarea)

    def _notices(self, report: MountReport | None, full: str | None) -> list[dict[str, Any]]:
        own = [
            notice(f"workarea-fault-{number}", "warning", sentence)
            for number, sentence in enumerate(self._workarea_faults)
        ]
        topics: tuple[str, ...] = self._own_topics
        if report is not None:
            own = storage_notices(report) + own
            topics += FROM_THE_STATUS_FILE
        else:
            own = self._faults_of_the_start() + own
        kills = (memory_kills() or 0) - self._kills_before
        if kills > 0:
            own.append(notice(f"memory-kill-{kills}", "error", self._killed(kills)))
        if full:
            own.append(notice("workarea-full", "warning", full))
        # What the hub says now may be what the start said already.
        said = {item["message"] for item in own}
        return own + [
            item
            for item in self._from_hub
            if item["message"] not in said
            and not item["id"].removeprefix("hub-").startswith(topics)
        ]

    def _faults_of_the_start(self) -> list[dict[str, Any]]:
        """What could not be mounted as the server started."""
        return [
            notice(f"storage-fault-{number}", "error", sentence, banner=True)
            for number, sentence in enumerate(self._contract.storage_faults)
        ]

    def _killed(self, kills: int) -> str:
        limit = self._contract.memory_limit
        size = f" of {size_in_words(limit)}" if limit else ""
        who = "A process of yours was" if kills == 1 else f"{kills} processes of yours were"
        return (
            f"{who} killed because the memory limit{size} was reached. Use less at once, or "
            "start the server with more memory."
        )

    def _ask_hub(self) -> None:
        now = time.monotonic()
        busy = self._task is not None and not self._task.done()
        if self._hub is None or busy or now - self._asked < _HUB_INTERVAL:
            return
        self._asked = now
        self._task = asyncio.create_task(self._fetch(self._hub))

    async def _fetch(self, hub: HubClient) -> None:
        path = f"/servers/notices?server={quote(self._contract.server_name)}"
        try:
            answer = await asyncio.to_thread(hub.get, path)
        except (HubRefused, HubUnreachable):
            return  # the hub restarts: what it said last still stands
        usage = answer.get("storage")
        self._usage = usage if isinstance(usage, dict) else {}
        items = answer.get("notices")
        self._from_hub = [
            notice(
                f"hub-{item.get('id')}",
                str(item.get("level")),
                str(item["message"]),
                banner=str(item.get("id", "")).startswith("storage"),
                keepalive=str(item.get("id", "")).startswith("idle"),
            )
            for item in (items if isinstance(items, list) else [])
            if isinstance(item, dict) and item.get("message")
        ]
