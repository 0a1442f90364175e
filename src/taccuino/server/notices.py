"""What a user should know while they work in a notebook server.

A mount that is missing, a process that was killed for memory, a workarea nearly full, a server
that is about to be stopped for being idle. ``extension`` serves them, ``labextension`` shows
them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import quote

from .contract import Contract
from .hub_client import HubClient, HubRefused, HubUnreachable
from .limits import memory_kills, size_in_words, workarea_warning

__all__ = ["NoticeBoard"]

_HUB_INTERVAL = 20.0  # seconds; the hub is asked only while a browser asks here


class NoticeBoard:
    """Collects the notices; asks the hub in the background and never waits for it."""

    def __init__(self, contract: Contract, workarea_faults: str = "") -> None:
        self._contract = contract
        self._hub = (
            HubClient(contract.hub_api_url, contract.hub_token) if contract.has_hub else None
        )
        self._workarea_faults = [line for line in workarea_faults.splitlines() if line]
        self._from_hub: list[dict[str, Any]] = []
        self._asked = -_HUB_INTERVAL
        self._task: asyncio.Task[None] | None = None
        kills = memory_kills()
        self._kills_before = kills or 0
        # What the hub says too, and is not said twice.
        self._own_topics = () if kills is None else ("oom-",)

    def notices(self) -> list[dict[str, Any]]:
        """The notices of this moment; those of the hub are up to half a minute old."""
        self._ask_hub()
        own = [
            _notice(f"storage-fault-{number}", "error", sentence, banner=True)
            for number, sentence in enumerate(self._contract.storage_faults)
        ]
        own += [
            _notice(f"workarea-fault-{number}", "warning", sentence)
            for number, sentence in enumerate(self._workarea_faults)
        ]
        kills = (memory_kills() or 0) - self._kills_before
        if kills > 0:
            own.append(_notice(f"memory-kill-{kills}", "error", self._killed(kills)))
        if warning := workarea_warning(self._contract.workarea):
            own.append(_notice("workarea-full", "warning", warning))
        # What the mount plane says now may be what the start said already.
        said = {notice["message"] for notice in own}
        return own + [item for item in self._from_hub if item["message"] not in said]

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
        items = answer.get("notices")
        self._from_hub = [
            _notice(f"hub-{item.get('id')}", str(item.get("level")), str(item["message"]))
            | {
                "banner": str(item.get("id", "")).startswith("storage"),
                "keepalive": str(item.get("id", "")).startswith("idle"),
            }
            for item in (items if isinstance(items, list) else [])
            if isinstance(item, dict)
            and item.get("message")
            and not str(item.get("id", "")).startswith(self._own_topics)
        ]


def _notice(name: str, level: str, message: str, *, banner: bool = False) -> dict[str, Any]:
    level = level if level in ("info", "warning", "error") else "info"
    return {"id": name, "level": level, "message": message, "banner": banner}
