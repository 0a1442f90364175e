"""rclone: one process a user with all of their mounts, driven by its remote control.

The process is started in a session of its own and outlives the daemon; `Rclone.adopt` finds
it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from .configuration import RcloneError, command, environment
from .layout import RcloneIdentity, UserPaths
from .limits import ProcessGroup

__all__ = ["Rclone"]

_OPEN_FILES = 16384
_STOP_SECONDS = 5.0
_LEFT_THE_QUEUE = "id not found in queue"


def _started(pid: int) -> int | None:
    """When a process started, in ticks after boot; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


class Rclone:
    """A running rclone of one user.

    ``exited`` is set as soon as the process ends, told by the kernel (pidfd_open(2)), for a
    child as for a process that an earlier daemon started.
    """

    def __init__(
        self,
        identity: RcloneIdentity,
        socket: Path,
        group: ProcessGroup,
        pidfd: int,
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.identity = identity
        self.exited = asyncio.Event()
        self._socket = socket
        self._group = group
        self._child = child
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._ended)

    @classmethod
    async def start(
        cls, paths: UserPaths, group: ProcessGroup, node: str, timeout: float
    ) -> Rclone:
        """Start rclone under its limits, and wait until its remote control answers.

        Raises
        ------
        RcloneError
            If it ends or gives no answer within ``timeout`` seconds.
        """
        paths.rclone_socket.unlink(missing_ok=True)
        words = command(paths, node)
        variables = environment(paths, os.environ, group.memory)
        output = paths.private / "rclone.out"

        def spawn() -> subprocess.Popen[bytes]:
            with output.open("wb") as file:
                # A child of asyncio would be killed when the daemon's loop closes.
                child = subprocess.Popen(
                    words,
                    env=variables,
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            group.admit(child.pid)
            _limit(child.pid)
            return child

        child = await asyncio.to_thread(spawn)
        started = _started(child.pid)
        if started is None:
            child.wait()
            raise RcloneError(f"rclone ended at once: {_tail(output)}")
        identity = RcloneIdentity(child.pid, started)
        process = cls(identity, paths.rclone_socket, group, os.pidfd_open(child.pid), child)
        if await process.answers(timeout):
            return process
        reason = "ended" if process.exited.is_set() else f"gave no answer in {timeout:g} s"
        await process.stop()
        raise RcloneError(f"rclone {reason}: {_tail(output) or _tail(paths.rclone_log)}")

    @classmethod
    async def adopt(
        cls, identity: RcloneIdentity, paths: UserPaths, group: ProcessGroup, timeout: float
    ) -> Rclone | None:
        """The rclone that an earlier daemon started, if it runs and is the same.

        One that does not answer is ended: another one would write to the same cache.
        """
        if _started(identity.pid) != identity.started:
            return None
        try:
            pidfd = os.pidfd_open(identity.pid)
        except ProcessLookupError:
            return None
        process = cls(identity, paths.rclone_socket, group, pidfd)
        if _started(identity.pid) != identity.started:
            process.release()
            return None
        if await process.answers(timeout):
            return process
        await process.stop()
        return None

    async def answers(self, timeout: float) -> bool:
        """Whether the remote control answers for this very process within the time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not self.exited.is_set() and loop.time() < deadline:
            if not self._socket.exists():  # that costs less than a question
                await asyncio.sleep(0.005)
                continue
            try:
                answer = await self.call("core/pid", timeout=deadline - loop.time())
            except RcloneError:
                await asyncio.sleep(0.02)
            else:
                return bool(answer.get("pid") == self.identity.pid)
        return False

    async def call(self, method: str, timeout: float = 10.0, **body: Any) -> dict[str, Any]:
        """Call the remote control (rclone: *Remote controlling rclone with its API*).

        Raises
        ------
        RcloneError
            With rclone's own text if it answers an error, or if it gives no answer.
        """
        connector = aiohttp.UnixConnector(path=str(self._socket))
        limit = aiohttp.ClientTimeout(total=max(timeout, 0.1))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=limit) as session,
                session.post(f"http://rclone/{method}", json=body) as response,
            ):
                answer = await response.json()
        except TimeoutError:
            raise RcloneError(f"rclone's {method}: i/o timeout after {timeout:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RcloneError(f"rclone's {method}: {error}") from error
        if response.status != 200:
            raise RcloneError(str(answer.get("error", answer)))
        return dict(answer)

    async def pending(self, remote: str) -> tuple[int, list[tuple[str, int]]]:
        """Files of a mount that wait for their upload, and ``(name, tries)`` that failed."""
        # vfs/stats would wait for a directory that is being listed.
        queue = (await self.call("vfs/queue", 0.8, fs=remote)).get("queue") or []
        failed = [(item["name"], item["tries"] - item["uploading"]) for item in queue]
        return len(queue), [(name, tries) for name, tries in failed if tries > 0]

    async def upload_now(self, remote: str) -> None:
        """Begin all uploads that wait: for their delay, or after a failure for longer."""
        for item in await self.waiting(remote):
            if item["expiry"] > 0:
                await self.upload_in(remote, item, -1)

    async def waiting(self, remote: str) -> list[dict[str, Any]]:
        """What waits for its upload, and is not being uploaded (rclone: ``vfs/queue``)."""
        queue = (await self.call("vfs/queue", fs=remote)).get("queue") or []
        return [item for item in queue if not item["uploading"]]

    async def upload_in(self, remote: str, item: dict[str, Any], seconds: float) -> None:
        """Begin an upload so many seconds from now, if it still waits."""
        try:
            await self.call("vfs/queue-set-expiry", fs=remote, id=item["id"], expiry=seconds)
        except RcloneError as error:
            if _LEFT_THE_QUEUE not in str(error):
                raise

    async def stop(self) -> None:
        """End the process; what waits for its upload stays in the cache.

        It is watched until it has ended, even if that takes longer than this waits.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.exited.is_set():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._pidfd, number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.exited.wait(), _STOP_SECONDS)
        await asyncio.to_thread(self._group.remove)

    def release(self) -> None:
        """Stop watching the process, and leave it as it is."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self) -> None:
        if self._child is not None:
            self._child.wait()
        self.release()
        self.exited.set()


def _limit(pid: int) -> None:
    """Bound the process's open files; a cache holds one for every file in use."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))


def _tail(path: Path) -> str:
    """The last line of a log, for an error."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1][-300:] if lines else ""
