"""Whether a notebook server answers, asked at its port.

A server with Taccuino's launcher tells the hub when it is ready; this is for the others, and
for a message that was lost. Asking costs little: a refused connection takes microseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from .errors import ContainerExitedError
from .server import ServerContainer

__all__ = ["answers", "until_ready", "wait_until_answers"]

_PAUSE = 0.1  # seconds between two questions
_PATIENCE = 5.0  # seconds for one answer


async def wait_until_answers(ip: str, port: int, path: str) -> None:
    """Return once the server answers HTTP; the caller sets the limit."""
    while not await answers(ip, port, path):  # noqa: ASYNC110 - a port has no event
        await asyncio.sleep(_PAUSE)


async def answers(ip: str, port: int, path: str) -> bool:
    """Whether an HTTP server answers ``GET path``, with whatever status."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(ip, port)
            request = f"GET {path} HTTP/1.1\r\nHost: {ip}:{port}\r\nConnection: close\r\n\r\n"
            writer.write(request.encode())
            await writer.drain()
            return await reader.readexactly(5) == b"HTTP/"
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def until_ready(
    container: ServerContainer,
    told: asyncio.Future[None],
    on_death: Callable[[], None],
    address: tuple[str, int, str] | None = None,
) -> None:
    """Wait until the server says that it is ready, answers at its address, or has ended.

    Raises
    ------
    ContainerExitedError
        If it ended; also what was set on ``told``.
    """
    if not container.ip:
        raise ContainerExitedError("the container ended at once")
    events: set[asyncio.Future[None]] = {asyncio.ensure_future(container.wait_dead())}
    if address is not None:
        events.add(asyncio.ensure_future(wait_until_answers(*address)))
    try:
        await asyncio.wait({told, *events}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            told.result()
        # A dead container's address leads out of the host, where a proxy may answer.
        elif not (container.watched_alive or await container.running(on_death)):
            raise ContainerExitedError("the container ended before its server was ready")
    finally:
        for event in events:
            event.cancel()
