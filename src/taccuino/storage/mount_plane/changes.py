"""Keeps what the relay keeps current: what this node changes is asked for again at once.

rclone lists a directory when somebody looks, which may be long before its last change. Were
the storage then cut off, a file saved just before would be missing from the kept listing. The
relay tells of each change that the storage took, and the user's rclone asks for the object's
HEAD and for the listings in which it appears: what it is answered is what the relay keeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from .configuration import RcloneError
from .rclone import Rclone

__all__ = ["Change", "ChangeFeed", "KeptCurrent", "change"]

log = logging.getLogger(__name__)

_MOST_AT_ONCE = 100
_AT_ONCE = 4
_LIST_SECONDS = 1.0
_SHARE = 0.1
"""The part of the time that listings may take, while files come in one after another."""
_AWAY_SECONDS = 2.0
_KNOWN_DIRECTORIES = 10_000


@dataclass(frozen=True)
class Change:
    """The storage took a change of an object; ``made`` is whether it is there now.

    ``etag`` is the new object's, where the storage told it: not for one that was copied or
    uploaded in parts.
    """

    slug: str
    bucket: str
    key: str
    made: bool
    etag: str | None = None


def change(line: str) -> Change | None:
    """What the relay tells in ``<slug> <method> <status> <ETag or -> <path and query>``.

    A part of an upload is no change yet; the POST that completes it is.
    """
    slug, method, status, told, target = line.split(" ", 4)
    url = urlsplit(target)
    bucket, _, key = url.path.lstrip("/").partition("/")
    query = parse_qs(url.query, keep_blank_values=True)
    of_parts = "uploadId" in query
    done = of_parts if method == "POST" else not of_parts and method in ("PUT", "DELETE")
    if not (bucket and key and done and status.startswith("2")):
        return None
    etag = told.strip('"') if method == "PUT" and told != "-" else None
    return Change(slug, unquote(bucket), unquote(key), method != "DELETE", etag)


class ChangeFeed:
    """Listens for the relay, which keeps what it has to tell until somebody does."""

    def __init__(self, path: Path) -> None:
        self.followers: dict[str, Callable[[Change], None]] = {}
        self._path = path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, also where an earlier daemon has left its socket."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._read, self._path)

    def stop(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read messages with their length before them (RFC 6587, octet counting)."""
        try:
            while True:
                length = int(await reader.readuntil(b" "))
                line = (await reader.readexactly(length)).decode(errors="replace")
                try:
                    found = change(line)
                except ValueError:
                    log.warning("the relay tells what nobody understands: %r", line)
                    continue
                if found and (tell := self.followers.get(found.slug)):
                    tell(found)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError):
            pass  # the relay was restarted; it comes again
        finally:
            writer.close()


class KeptCurrent:
    """Asks again for what one user's mounts have changed, as long as rclone runs.

    Each new object is asked for at once. A directory is listed (``relist``) at most once a
    second, and less often where that takes long. ``answers`` is whether the storage does:
    what is asked while it is away would be answered with what was kept.
    """

    def __init__(
        self,
        rclone: Callable[[], Rclone | None],
        answers: Callable[[], bool],
        relist: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._rclone = rclone
        self._answers = answers
        self._relist = relist
        self._objects = _Questions(self._ask_objects, self._ready, 0.0)
        self._directories = _Questions(self._ask_directories, self._ready, _LIST_SECONDS)
        self._known: dict[tuple[str, str], None] = {}

    def changed(self, told: Change) -> None:
        """Take note of a change."""
        if told.made:
            self._objects.add((told.bucket, told.key))
        for directory in self._stale(told):
            self._directories.add((told.bucket, directory))

    def stop(self) -> None:
        """Ask no more."""
        self._objects.stop()
        self._directories.stop()

    def _stale(self, told: Change) -> Iterator[str]:
        """The directories whose listings a change alters.

        Those above the object's own alter only if its own is new, or gone with it.
        """
        directory = told.key.rpartition("/")[0]
        yield directory
        if not told.made:
            self._known.pop((told.bucket, directory), None)
            return
        while directory and (told.bucket, directory) not in self._known:
            self._known[told.bucket, directory] = None
            if len(self._known) > _KNOWN_DIRECTORIES:
                self._known.pop(next(iter(self._known)))
            directory = directory.rpartition("/")[0]
            yield directory

    def _ready(self) -> bool | None:
        """Whether to ask now; None if there is nobody any more to ask."""
        return self._answers() if self._rclone() else None

    async def _ask_objects(self, objects: list[tuple[str, str]]) -> None:
        await self._ask(
            {
                "_path": "operations/stat",
                "fs": f"home:{bucket}",
                "remote": key,
                "opt": {"filesOnly": True},
            }
            for bucket, key in objects
        )

    async def _ask_directories(self, directories: list[tuple[str, str]]) -> None:
        """Not by rclone, whose listings pass for what its mounts know."""
        for bucket, directory in directories:
            await self._relist(bucket, directory)

    async def _ask(self, calls: Iterable[dict[str, object]]) -> None:
        if rclone := self._rclone():
            await rclone.call("job/batch", 60.0, inputs=list(calls), concurrency=_AT_ONCE)


class _Questions:
    """What is to be asked, each question at most once in ``pause`` seconds."""

    def __init__(
        self,
        ask: Callable[[list[tuple[str, str]]], Awaitable[None]],
        ready: Callable[[], bool | None],
        pause: float,
    ) -> None:
        self._ask = ask
        self._ready = ready
        self._pause = pause
        self._due: dict[tuple[str, str], float] = {}
        self._rests: dict[tuple[str, str], float] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, question: tuple[str, str]) -> None:
        self._due.setdefault(question, self._rests.get(question, 0.0))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    def stop(self) -> None:
        if self._task:
            self._task.cancel()

    async def _work(self) -> None:
        while self._due:
            ready, now = self._ready(), time.monotonic()
            if ready is None:
                self._due.clear()
                return
            turn = [question for question, due in self._due.items() if due <= now]
            if not ready:
                await asyncio.sleep(_AWAY_SECONDS)
            elif not turn:
                await asyncio.sleep(min(self._due.values()) - now)
            else:
                await self._take(turn[:_MOST_AT_ONCE])

    async def _take(self, turn: list[tuple[str, str]]) -> None:
        for question in turn:
            del self._due[question]
        began = time.monotonic()
        with contextlib.suppress(RcloneError):  # it just ended, or the storage went away
            await self._ask(turn)
        now = time.monotonic()
        if self._pause:
            rest = now + max(self._pause, (now - began) / _SHARE)
            self._rests = {key: due for key, due in self._rests.items() if due > now}
            self._rests |= dict.fromkeys(turn, rest)
