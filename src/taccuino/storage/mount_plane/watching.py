"""Directories in use are looked at for rclone, so that it need not ask for what it knows.

An S3 listing has no modification times: rclone asks for each file's, one HEAD a file, each
time it lists a directory anew. Were a listing believed for ``directory_cache_seconds`` only,
looking at a folder of a thousand files every ten seconds, as JupyterLab does, would cost a
thousand requests each time. So rclone believes its listings for long, and the daemon asks the
storage whether a directory changed: one request, as often as freshness needs. Where it did,
other than by this mount's own uploads, rclone is told to list it again (``vfs/forget``). A
directory that nobody listed for a while, or one too many, is forgotten likewise.

What rclone was answered is known exactly, since its listings pass here. While the storage is
away nothing is forgotten.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .asking import AskError
from .changes import Change
from .listings import (
    Listing,
    ListingTarget,
    listing_target,
    parse_listing,
    unexplained,
    with_prefix,
)

__all__ = ["LISTING_SECONDS", "DirectoryWatch"]

log = logging.getLogger(__name__)

LISTING_SECONDS = 180.0
"""How long rclone believes a listing if nobody tells it otherwise: while the daemon is dead."""
_WATCHED_SECONDS = 120.0
"""How long a directory is looked at after rclone has listed it."""
_MOST_DIRECTORIES = 8
_MOST_PAGES = 4
_SHARE = 0.9
"""Of ``directory_cache_seconds``: the rest is for asking and telling."""
_LEAST_PAUSE = 0.2
_RETRY_SECONDS = 1.0
_SETTLED_SECONDS = 1.0
"""After a change, what the storage lists has it, and the relay has told of it."""
_FORGET_AT_ONCE = 200
_MOST_OWN = 10_000


@dataclass
class _Directory:
    """A directory as rclone knows it: what it asked, was answered, and has changed since."""

    targets: list[str]
    bodies: list[bytes]
    known: Listing | None
    listed: float
    due: float


class DirectoryWatch:
    """Looks at the directories that one user's rclone lists.

    ``ask`` gives the storage's answer to a target, ``forget`` makes rclone list directories
    again, and ``available`` is whether the storage answers at all.
    """

    def __init__(
        self,
        seconds: float,
        ask: Callable[[str], Awaitable[bytes]],
        forget: Callable[[list[ListingTarget]], Awaitable[None]],
        available: Callable[[], bool],
    ) -> None:
        self._pause = max(seconds * _SHARE, _LEAST_PAUSE)
        self._ask = ask
        self._forget = forget
        self._available = available
        self._directories: dict[tuple[str, str], _Directory] = {}
        self._leaving: dict[tuple[str, str], float] = {}
        self._own: dict[str, dict[str, tuple[str | None, float]]] = {}
        self._template = ""
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def answered(self, target: str, body: bytes) -> tuple[ListingTarget, Listing] | None:
        """Take note of what rclone is answered; the page's content if it can be read."""
        directory = listing_target(target)
        if directory is None:
            return None
        now = time.monotonic()
        self._template = target if directory.first else self._template
        try:
            page = parse_listing(body)
        except ValueError as error:
            log.warning("%s/%s: %s", directory.bucket, directory.prefix, error)
            self._leave(directory, now + self._pause)
            return None
        self._note(directory, target, body, page, now)
        self._start()
        return directory, page

    def changed(self, told: Change) -> None:
        """Take note of what this mount changed itself."""
        own = self._own.setdefault(told.bucket, {})
        if len(own) > _MOST_OWN:
            own.clear()
        own[told.key] = (told.etag if told.made else "", time.monotonic())

    def target_of(self, bucket: str, directory: str) -> str | None:
        """How rclone would ask for a directory; None if it never asked for any."""
        prefix = f"{directory}/" if directory else ""
        wanted = ListingTarget(bucket, prefix, first=True)
        return with_prefix(self._template, wanted) if self._template else None

    def clear(self) -> None:
        """Another rclone knows nothing."""
        self._directories.clear()
        self._leaving.clear()
        self._own.clear()

    def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()

    def _note(
        self, directory: ListingTarget, target: str, body: bytes, page: Listing, now: float
    ) -> None:
        key = (directory.bucket, directory.prefix)
        found = self._directories.pop(key, None)
        if directory.first:
            self._drop_own(directory, now)
            due = now + self._pause
            found = _Directory([target], [body], page, now, due)
        elif found and found.known and len(found.targets) < _MOST_PAGES:
            found.targets.append(target)
            found.bodies.append(body)
            found.known.extend(page)
        else:
            self._leave(directory, now + self._pause)
            return
        self._leaving.pop(key, None)
        self._directories[key] = found
        while len(self._directories) > _MOST_DIRECTORIES:
            (bucket, prefix), left = next(iter(self._directories.items()))
            self._leave(ListingTarget(bucket, prefix, first=True), left.due)

    def _leave(self, directory: ListingTarget, due: float) -> None:
        key = (directory.bucket, directory.prefix)
        self._directories.pop(key, None)
        self._leaving[key] = min(due, self._leaving.get(key, due))
        self._start()

    def _start(self) -> None:
        self._news.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while self._directories or self._leaving:
            now = time.monotonic()
            if self._available():
                await self._look(now)
                await self._let_go(now)
            dues = [found.due for found in self._directories.values()]
            dues += self._leaving.values()
            pause = min(dues, default=now) - time.monotonic()
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                least = 0.05 if self._available() else _RETRY_SECONDS
                await asyncio.wait_for(self._news.wait(), max(pause, least))

    async def _look(self, now: float) -> None:
        due = [item for item in self._directories.items() if item[1].due <= now]
        for key, found in due:
            directory = ListingTarget(*key, first=True)
            if now - found.listed > _WATCHED_SECONDS:
                self._leave(directory, now)
                continue
            found.due = now + self._pause
            try:
                changed = await self._is_changed(directory, found)
            except AskError as error:
                log.debug("%s/%s: %s", *key, error)
                found.due = now + _RETRY_SECONDS
                continue
            if changed and self._directories.get(key) is found:
                self._leave(directory, now)

    async def _is_changed(self, directory: ListingTarget, found: _Directory) -> bool:
        began = time.monotonic()
        bodies = [await self._ask(target) for target in found.targets]
        if bodies == found.bodies or found.known is None:
            return False
        after = Listing()
        try:
            for body in bodies:
                after.extend(parse_listing(body))
        except ValueError:
            return True
        own = self._own.get(directory.bucket, {})
        if unexplained(found.known, after, {key: etag for key, (etag, _) in own.items()}):
            return True
        found.bodies, found.known = bodies, after
        self._drop_own(directory, began)
        return False

    def _drop_own(self, directory: ListingTarget, asked: float) -> None:
        """Forget the changes that a listing has in it: they explain no later one."""
        own = self._own.get(directory.bucket, {})
        settled = asked - _SETTLED_SECONDS
        for key in [key for key in own if key.startswith(directory.prefix)]:
            if own[key][1] < settled and key.rpartition("/")[0] == directory.prefix.rstrip("/"):
                del own[key]

    async def _let_go(self, now: float) -> None:
        due = [key for key, when in self._leaving.items() if when <= now][:_FORGET_AT_ONCE]
        if not due:
            return
        times = {key: self._leaving.pop(key) for key in due}
        try:
            await self._forget([ListingTarget(*key, first=True) for key in due])
        except Exception as error:  # noqa: BLE001 - whatever it was, what is stale must not stay
            log.warning("directories are to be listed again: %s; tried again", error)
            again = time.monotonic() + _RETRY_SECONDS
            for key in times:
                if key not in self._directories:
                    self._leaving.setdefault(key, again)
