"""restic (its *Documentation*, 0.14): one user's repository, in their bucket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taccuino.errors import TaccuinoError
from taccuino.settings import Settings, SnapshotSettings
from taccuino.storage.mount_plane.credentials import StorageCredentials
from taccuino.storage.mount_plane.kernel import make_private_directory
from taccuino.storage.snapshots import PREFIX, Snapshot, SnapshotOwner, is_snapshot_id

from .lineage import facts_of
from .sandbox import AREA, CACHE, PASSED, RUN, Sandbox

__all__ = ["Backup", "Restic", "SnapshotError", "error_of", "explain", "kill"]

log = logging.getLogger(__name__)

_RENEW_SECONDS = 30.0
_AWAY_SECONDS = 30.0
_QUESTION_SECONDS = 120.0
_INCOMPLETE = 3
"""restic's exit code where it could not read some files; the snapshot was made."""
_KEPT_LINES = 40
_LONGEST_LINE = 1 << 20


class SnapshotError(TaccuinoError):
    """A snapshot can't be made or restored; the text is a sentence for the user.

    ``reason``: ``unreachable``, ``quota``, ``full``, ``key``, ``denied``, ``locked``, ``none``
    (there is no repository), ``there`` (there is one), ``missing``, ``busy`` (with another job)
    or ``failed``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_SENTENCES = {
    "unreachable": "The object storage can't be reached.",
    "quota": "Your bucket is full, and snapshots are kept in it. Delete what you no longer "
    "need, and earlier versions of files, which count too: the storage pages free them.",
    "full": "There is not enough room in your workarea. Delete what you no longer need.",
    "key": "Your snapshots are locked with another key than this site has. Please tell the "
    "operators of this service.",
    "denied": "The object storage refuses your account.",
    "locked": "Your snapshots are being tidied up from another machine.",
    "missing": "There is no such snapshot (any more).",
    "failed": "The program that makes snapshots met an error. Please tell the operators of "
    "this service.",
}
_SIGNS = (
    ("quota", "QuotaExceeded"),
    ("full", "no space left on device"),
    ("full", "disk quota exceeded"),
    ("key", "wrong password or no key found"),
    ("locked", "repository is already locked"),
    ("missing", "no matching ID found"),
    ("missing", "multiple IDs with prefix"),
    ("denied", "Access Denied"),
    ("denied", "AccessDenied"),
    ("denied", "InvalidAccessKeyId"),
    ("there", "config file already exists"),
    ("none", "specified key does not exist"),
    ("none", "NoSuchKey"),
    ("denied", "specified bucket does not exist"),
    ("unreachable", "connection refused"),
    ("unreachable", "i/o timeout"),
    ("unreachable", "no such host"),
    ("unreachable", "failure in name resolution"),
)
_HOPELESS = ("QuotaExceeded", "no space left on device", "disk quota exceeded")
"""restic would try again for a quarter of an hour."""


def error_of(reason: str) -> SnapshotError:
    """The error for a reason."""
    return SnapshotError(reason, _SENTENCES.get(reason, _SENTENCES["failed"]))


def explain(output: Iterable[str]) -> SnapshotError:
    """What restic's last words mean."""
    text = "\n".join(output)
    reason = next((reason for reason, sign in _SIGNS if sign in text), "failed")
    return error_of(reason)


@dataclass(frozen=True)
class Backup:
    """What was made; ``complete`` is whether all files could be read."""

    id: str
    complete: bool


class Restic:
    """Runs restic for one user; one call at a time.

    Credentials are read again by restic when they near their end (``credential_process``):
    however long a run takes, it has fresh ones. ``alone``: while no other site is in it; of two
    that make the repository at once, one would be locked out.
    """

    def __init__(
        self,
        settings: Settings,
        owner: SnapshotOwner,
        private: Path,
        node: str,
        *,
        key: Callable[[], str],
        credentials: Callable[[], Awaitable[StorageCredentials]],
        away: Callable[[], bool],
        alone: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._settings = settings
        self._alone = alone
        self._private = private
        self._key = key
        self._credentials = credentials
        self._away = away
        self.node = node
        url = f"{settings.storage.endpoint}/{owner.bucket}/{PREFIX}repository"
        self._repository = f"s3:{url}"

    # -- what it does

    async def snapshots(self) -> list[Snapshot]:
        """All there are, the newest first; none where there is no repository."""
        try:
            lines = await self._restic("snapshots", "--json", "--no-lock", cached=True)
        except SnapshotError as error:
            if error.reason == "none":
                return []
            raise
        found = json.loads("".join(lines) or "null") or []
        return sorted(map(_from_json, found), key=lambda one: one.at, reverse=True)

    async def backup(
        self,
        area: Path,
        tags: Iterable[str],
        *,
        idle: bool,
        progress: Callable[[int], None],
    ) -> Backup:
        """Make a snapshot of an area; the repository too, if this is the first."""
        excluded = [f"{AREA}/cloud_storage", f"{AREA}/examples", f"{AREA}/.restoring-*"]
        excluded.append(f"{AREA}/lost+found")
        words = ["backup", "--json", "--host", self.node, "--one-file-system"]
        for pattern in (*excluded, *self._settings.snapshots.exclude):
            words += ["--exclude", pattern]
        for tag in tags:
            words += ["--tag", tag]
        made: list[Backup] = []

        def line(text: str) -> None:
            told = _json(text)
            if told.get("message_type") == "status":
                progress(min(99, int(100 * float(told.get("percent_done", 0)))))
            elif told.get("message_type") == "summary":
                made.append(Backup(str(told["snapshot_id"]), complete=True))

        async def attempt() -> bool:
            accepted = await self._run(
                [*words, "."],
                Sandbox(self.node, area=area, idle=idle),
                line=line,
                accept=(0, _INCOMPLETE),
            )
            return accepted == 0

        try:
            complete = await self._unlocked(attempt)
        except SnapshotError as error:
            if error.reason != "none":
                raise
            async with self._alone():
                await self._make_repository(idle=idle)
            complete = await attempt()
        if not made or not is_snapshot_id(made[-1].id):
            raise error_of("failed")
        return Backup(made[-1].id, complete)

    async def _make_repository(self, *, idle: bool) -> None:
        try:
            await self._restic("init", idle=idle)
        except SnapshotError as error:
            if error.reason != "there":  # made at another site just now
                raise

    async def restore(self, snapshot: str, area: Path, uid: int, folder: str) -> None:
        """Lay a snapshot's files into a directory of the area that is there, as the user."""
        words = ["restore", "--no-lock", "--target", f"{AREA}/{folder}", snapshot]
        await self._run(words, Sandbox(self.node, area=area, uid=uid))

    async def size(self, snapshot: str) -> int:
        """The bytes that a snapshot takes where it is restored."""
        words = ("stats", "--mode", "restore-size", "--json", "--no-lock", snapshot)
        told = _json("".join(await self._restic(*words, cached=True)))
        return int(told.get("total_size", 0))

    async def thin(self, keep: SnapshotSettings) -> None:
        """Remove the snapshots that are not to be kept, and what only they hold.

        Each node's are counted by themselves: what was made apart stays.
        """
        words = ["forget", "--prune", "--group-by", "host"]
        for name in ("last", "hourly", "daily", "weekly", "monthly"):
            if number := getattr(keep, f"keep_{name}"):
                words += [f"--keep-{name}", str(number)]

        async def attempt() -> object:
            return await self._restic(*words, idle=True, cached=True, timeout=None)

        await self._unlocked(attempt)

    # -- running it

    async def _unlocked(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """Try; where a lock is in the way that was left behind, remove it and try again.

        Of this node's, all were: one thing is done at a time. Of another's, restic tells by
        their age (half an hour).
        """
        try:
            return await attempt()
        except SnapshotError as error:
            if error.reason != "locked":
                raise
        listed = map(str.strip, await self._restic("list", "locks", "--no-lock"))
        if locks := list(filter(is_snapshot_id, listed)):
            ours = True
            for lock in locks:
                told = await self._restic("cat", "lock", lock, "--no-lock")
                ours = ours and _json("".join(told)).get("hostname") == self.node
            log.warning("%s: unlocking%s", self._repository, ", all are ours" if ours else "")
            await self._restic("unlock", *(["--remove-all"] if ours else []))
        return await attempt()

    async def _restic(
        self,
        *words: str,
        idle: bool = False,
        cached: bool = False,
        timeout: float | None = _QUESTION_SECONDS,
    ) -> list[str]:
        lines: list[str] = []
        cache = self._private / "restic-cache" if cached else None
        sandbox = Sandbox(self.node, idle=idle, cache=cache)
        await self._run([*words], sandbox, line=lines.append, timeout=timeout)
        return lines

    async def _run(
        self,
        words: list[str],
        sandbox: Sandbox,
        *,
        line: Callable[[str], None] = lambda _: None,
        accept: tuple[int, ...] = (0,),
        timeout: float | None = None,
    ) -> int:
        """Run restic to its end; its exit code.

        Raises
        ------
        SnapshotError
            If it is none of those accepted, or the storage stays away.
        """
        if self._away():
            raise error_of("unreachable")
        await asyncio.to_thread(make_private_directory, self._private)
        options = [f"s3.region={self._settings.storage.region}", "s3.bucket-lookup=path"]
        command = ["restic", *(word for option in options for word in ("-o", option))]
        if (sandbox.area and sandbox.uid is None) or sandbox.cache:
            cache = self._private / "restic-cache"
            cache.mkdir(exist_ok=True)
            sandbox = replace(sandbox, cache=cache)
            command += ["--cache-dir", CACHE, "--cleanup-cache"]
        else:
            command.append("--no-cache")
        async with self._secrets(sandbox.uid or 0) as run:
            sandbox = replace(sandbox, run=run)
            process = await asyncio.create_subprocess_exec(
                *sandbox.words([*command, *words], self._variables(idle=sandbox.idle)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                limit=_LONGEST_LINE,
            )
            said: list[str] = []
            watching = asyncio.create_task(self._watch(process, timeout))
            try:
                await asyncio.gather(
                    _lines(process.stdout, line),
                    _lines(process.stderr, self._listen(process, said)),
                )
                code = await process.wait()
            finally:
                kill(process)
                watching.cancel()
                await process.wait()
        if code in accept:
            return code
        if watching.done() and not watching.cancelled() and watching.result():
            raise error_of("unreachable")
        error = explain(said)
        if error.reason not in ("none", "there", "locked"):
            log.warning("restic %s: %d: %s", words[0], code, " | ".join(said[-5:]))
        raise error

    def _variables(self, *, idle: bool) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in PASSED if name in os.environ},
            "HOME": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": f"{RUN}/aws",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RESTIC_PASSWORD_FILE": f"{RUN}/key",
            "RESTIC_REPOSITORY": self._repository,
            "RESTIC_PROGRESS_FPS": "1",
            "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
            "GOGC": "50",
            **({"GOMAXPROCS": "1"} if idle else {}),
        }

    @contextlib.asynccontextmanager
    async def _secrets(self, uid: int) -> AsyncIterator[Path]:
        """A directory with the key and with credentials that are kept fresh; gone after."""
        credentials = await self._credentials()
        key = self._key()
        run = Path(tempfile.mkdtemp(prefix="restic-run-", dir=self._private))
        try:
            run.chmod(0o755)  # who passes the user's private directory is root
            _give(run / "key", key, uid)
            _give(run / "aws", f"[default]\ncredential_process = cat {RUN}/credentials\n", uid)
            _give(run / "credentials", _process_json(credentials), uid)
            renewing = asyncio.create_task(self._renew(run / "credentials", uid))
            try:
                yield run
            finally:
                renewing.cancel()
        finally:
            shutil.rmtree(run, ignore_errors=True)

    async def _renew(self, path: Path, uid: int) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                _give(path, _process_json(await self._credentials()), uid)
            except (TaccuinoError, OSError) as error:
                log.warning("no fresh credentials for a snapshot: %s", error)

    async def _watch(self, process: asyncio.subprocess.Process, timeout: float | None) -> bool:
        """End a run that the storage does not serve any more; whether that was so."""
        began = asyncio.get_running_loop().time()
        gone = 0.0
        while True:
            await asyncio.sleep(1)
            gone = gone + 1 if self._away() else 0.0
            late = timeout and asyncio.get_running_loop().time() - began > timeout
            if gone > _AWAY_SECONDS or late:
                kill(process)
                return True

    def _listen(
        self, process: asyncio.subprocess.Process, said: list[str]
    ) -> Callable[[str], None]:
        def line(text: str) -> None:
            said.append(text)
            del said[:-_KEPT_LINES]
            if any(sign in text for sign in _HOPELESS):
                kill(process)

        return line


def kill(process: asyncio.subprocess.Process) -> None:
    """End a sandbox with all that runs in it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)


async def _lines(stream: asyncio.StreamReader | None, take: Callable[[str], None]) -> None:
    assert stream is not None
    while data := await stream.readline():
        take(data.decode(errors="replace").strip())


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _from_json(data: dict[str, Any]) -> Snapshot:
    host, tags = str(data.get("hostname", "")), data.get("tags") or []
    facts = facts_of(tags)
    return Snapshot(
        id=str(data["short_id"]),
        at=datetime.fromisoformat(_to_microseconds(data["time"])).timestamp(),
        site=host.partition(".")[0],
        bytes=facts.get("bytes"),
        files=facts.get("files"),
    )


def _to_microseconds(time: str) -> str:
    """Go's time with nine digits of a second, as Python 3.11 reads it."""
    exact = re.sub(r"\.(\d+)", lambda found: f".{found[1][:6]:0<6}", time)
    return exact.replace("Z", "+00:00")


def _process_json(credentials: StorageCredentials) -> str:
    return json.dumps(credentials.as_process_json(datetime.now(UTC)))


def _give(path: Path, text: str, uid: int) -> None:
    """Write a file that one uid reads, in one step."""
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchown(file.fileno(), uid, uid)
    temporary.replace(path)
