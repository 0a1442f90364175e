"""The two ways of a start: a server that waits becomes the user's, or one is made for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .attachment import SharedStorage
from .errors import ContainerExitedError, EngineError
from .front_end import addresses_of, front_end_addresses
from .progress import StartProgress
from .readiness import until_ready
from .storage_port import Attachment, ServerIds
from .uid_ranges import UidRange

if TYPE_CHECKING:
    from .spawner import NotebookSpawner
    from .warm import WarmServer

__all__ = ["start_cold", "start_warm"]

_ROUTED_SECONDS = 1.0
_WARM_SECONDS = 15.0
"""A server that waited becomes ready in a tenth of a second; later than this, it hangs."""


async def start_warm(
    spawner: NotebookSpawner, warm: WarmServer, own: UidRange, progress: StartProgress
) -> str:
    """Make a server that waits the user's own: files, limits, identity; its address.

    Raises
    ------
    EngineError, ContainerExitedError, ServerFailedError, OSError
        If it does not become it; a server can be made then, for the same uids.
    FilesOutdatedError
        If there are newer files; a server can be made then, with them.
    """
    container = warm.container
    spawner.take_container(container)
    spawner.attachment = Attachment()
    spawner.front_end = addresses_of(spawner.settings, warm.image_id)
    told = spawner.expect_word()
    warm.link.on_phase = spawner.server_event
    ids = ServerIds(warm.uids.uid, own.uid)
    attaching = asyncio.ensure_future(spawner.attach(ids, progress, warm.place.name))
    tasks: set[asyncio.Future[Any]] = {attaching}
    completing: asyncio.Future[tuple[str, ...]] | None = None
    try:
        spec = spawner.container_spec(None)
        assert container.group is not None
        container.group.limit_memory(spec.memory)
        container.group.weigh(1)
        # Jupyter starts while the files are mounted, which take no longer.
        await warm.link.become(spec.environment, spec.command)
        await attaching
        progress.enter("container", "A container that was waiting becomes yours")
        await warm.link.go_on(spawner.get_env())
        # While the files are mounted and Jupyter starts, the engine would be in their way.
        checking = asyncio.ensure_future(spawner.warm_pool().check_image(warm))
        tasks.add(checking)
        expected = spawner.attachment.expected
        if not expected:
            completing = asyncio.ensure_future(SharedStorage.complete(spawner.attachment))
            tasks.add(completing)
        progress.enter("jupyter")
        async with asyncio.timeout(_WARM_SECONDS):
            await until_ready(container, told, spawner.died_alone)
        for sentence in await SharedStorage.confirm(spawner.attachment):
            progress.notice(sentence)
        container.booted(spec.cpus)
        if completing:
            for fault in await completing:
                progress.notice(fault)
        await checking
    finally:
        warm.link.on_phase = None
        warm.link.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    await _still_runs(spawner)
    spawner.after_start = spawner.in_background(_after_start(spawner, complete=expected))
    progress.enter("ready")
    return f"http://{container.ip}:{spawner.port}"


async def _still_runs(spawner: NotebookSpawner) -> None:
    """Its files may have taken long: nobody looks at a death while a start is under way."""
    container = spawner.container
    if not (container.watched_alive or await container.running(spawner.died_alone)):
        raise ContainerExitedError("the container ended before its start did")


async def _after_start(spawner: NotebookSpawner, *, complete: bool) -> None:
    """Do what the server was not made to wait for; its pages tell of any fault."""
    # First of all the user's way to the server, which takes the hub some milliseconds.
    if spawner._spawn_future is not None:  # noqa: SLF001
        await asyncio.wait({spawner._spawn_future}, timeout=_ROUTED_SECONDS)  # noqa: SLF001
    naming = asyncio.ensure_future(_name(spawner))
    if complete:
        for fault in await SharedStorage.complete(spawner.attachment):
            spawner.log.warning("%s: %s", spawner.object_name, fault)
    await naming


async def _name(spawner: NotebookSpawner) -> None:
    """Let operators see whose the container is."""
    container = spawner.container
    try:
        if container.id:
            await container.rename(spawner.object_name)
    except EngineError as error:
        spawner.log.warning("%s keeps its first name: %s", container.name, error)


async def start_cold(
    spawner: NotebookSpawner, uids: UidRange, own: UidRange, progress: StartProgress
) -> str:
    """Make a server for the user, which runs in the range ``uids``; its address.

    Raises
    ------
    TaccuinoError
        If it can't be had.
    """
    container, told = spawner.container, spawner.expect_word()
    container.uid = uids.uid
    ids = ServerIds(uids.uid, own.uid)
    attaching = asyncio.ensure_future(spawner.attach(ids, progress))
    networking = asyncio.ensure_future(container.make_network())
    try:
        looking = front_end_addresses(spawner.engine, spawner.settings, spawner.image)
        _, _, spawner.front_end = await asyncio.gather(attaching, networking, looking)
    finally:
        for task in (attaching, networking):
            task.cancel()
        await asyncio.wait({attaching, networking})
    completing = asyncio.ensure_future(SharedStorage.complete(spawner.attachment))
    try:
        progress.enter("container")
        spec = spawner.container_spec(spawner.mapped_uids(uids))
        await container.create(spec)
        spawner.object_id = container.id
        await container.start(spawner.died_alone)
        progress.enter("jupyter")
        base = spawner.server.base_url if spawner.server else "/"
        address = (container.ip, spawner.port, f"{base}api")
        await until_ready(container, told, spawner.died_alone, address)
        container.booted(spec.cpus)
        for sentence in await SharedStorage.confirm(spawner.attachment):
            progress.notice(sentence)
        for fault in await completing:
            progress.notice(fault)
    finally:
        completing.cancel()
        await asyncio.wait({completing})
    await _still_runs(spawner)
    progress.enter("ready")
    return f"http://{container.ip}:{spawner.port}"
