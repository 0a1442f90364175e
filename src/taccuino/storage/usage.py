"""How full buckets are, for those who show it: never slow, and never asked twice at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from botocore.exceptions import BotoCoreError

from .admin_ops import BucketUsage, NoAdminOpsError
from .clients import off_loop
from .errors import StorageError

__all__ = ["UsageCache"]

_log = logging.getLogger(__name__)

_FRESH_SECONDS: Final = 30.0
_AWAY_SECONDS: Final = 10.0
_WAIT_SECONDS: Final = 1.5
_AT_ONCE: Final = 4
"""A storage that hangs must not keep all of the storage's threads waiting for numbers."""
_BUCKETS: Final = 10_000


class UsageCache:
    """Asks for a bucket's usage at most every 30 s, once for all who want to know.

    After the storage could not be asked, nobody is kept waiting again for ten seconds; where
    it has no such API, never.
    """

    def __init__(self, ask: Callable[[str], BucketUsage]) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, BucketUsage]] = {}
        self._asking: dict[str, asyncio.Task[BucketUsage | None]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._away_until = 0.0

    async def get(self, bucket: str) -> BucketUsage | None:
        """A bucket's usage; ``None`` if it can't be known within 1.5 s."""
        at, known = self._known.get(bucket, (0.0, None))
        now = time.monotonic()
        if known and now - at < _FRESH_SECONDS:
            return known
        if now < self._away_until:
            return None
        task = self._asking.get(bucket)
        if task is None:
            task = self._asking[bucket] = asyncio.create_task(self._find(bucket))
            task.add_done_callback(lambda _: self._asking.pop(bucket, None))
        try:
            return await asyncio.wait_for(asyncio.shield(task), _WAIT_SECONDS)
        except TimeoutError:
            self._stay_away("it gives no answer", _AWAY_SECONDS)
            return None

    def forget(self, bucket: str) -> None:
        """Ask anew: the bucket's quota was changed."""
        self._known.pop(bucket, None)

    async def _find(self, bucket: str) -> BucketUsage | None:
        async with self._at_once:
            if time.monotonic() < self._away_until:
                return None
            try:
                usage = await off_loop(lambda: self._ask(bucket))
            except NoAdminOpsError as error:
                self._stay_away(str(error), float("inf"))
                return None
            except (StorageError, BotoCoreError) as error:
                if not isinstance(error, StorageError) or error.reason == "unreachable":
                    self._stay_away(str(error), _AWAY_SECONDS)
                return None
        if len(self._known) >= _BUCKETS:
            self._known.clear()
        self._known[bucket] = (time.monotonic(), usage)
        return usage

    def _stay_away(self, why: str, seconds: float) -> None:
        if time.monotonic() >= self._away_until:
            _log.warning("The object storage can't be asked how full buckets are: %s", why)
        self._away_until = max(self._away_until, time.monotonic() + seconds)
