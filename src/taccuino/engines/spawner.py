"""``NotebookSpawner``: starts a user's notebook server, and answers for all that belongs to it.

It is a ``DockerSpawner`` in its options and its place in JupyterHub. What it does otherwise:
a start is told by the server and not found by polling, a death is noticed at once, a failure
has a reason in words, and nothing of a server is ever left behind.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import Any
from urllib.parse import urlparse

from dockerspawner import DockerSpawner
from traitlets import Any as AnyTrait
from traitlets import Float, Instance, Unicode, default

from taccuino.errors import TaccuinoError
from taccuino.naming import slug
from taccuino.settings import Settings, parse_size

from . import firewall
from .attachment import SharedStorage
from .container import SERVER_LABEL, USER_LABEL, ContainerSpec
from .engine import Engine, engine_for
from .environment import notebook_environment, server_api
from .errors import (
    ContainerExitedError,
    EngineError,
    EngineUnreachableError,
    FilesOutdatedError,
    ServerFailedError,
)
from .failures import Evidence, Failure, clean_log, explain_failure, memory_notice
from .kept_state import kept_state, take_up
from .metrics import START_FAILURES, START_SECONDS, WARM_CLAIMS
from .progress import StartProgress
from .queue import Lane, start_queue
from .server import ServerContainer
from .start_failure import StartFailure, find_room
from .start_paths import start_cold, start_warm
from .storage_port import Attachment, Bind, NoStorage, ServerIds, ServerStorage
from .uid_ranges import UidRange, UidRanges
from .warm import Claim

__all__ = ["NotebookSpawner"]

_RECONNECT_SECONDS = 15.0
_SERVER_PHASES = {"booting": "Your container is up", "jupyter": "Jupyter is loading"}


class NotebookSpawner(DockerSpawner):
    """A user's notebook server in an unprivileged container with a network of its own.

    ``image``, ``cpu_limit``, ``mem_limit`` and ``interface`` are set from the user's options
    by the hub, which has validated them.
    """

    settings = Instance(Settings, config=True, help="Taccuino's settings, resolved.")
    storage = AnyTrait(
        config=True,
        help="""The users' storage: a function of the spawner that gives a ``ServerStorage``.

        traitlets copies configured objects for each spawner, but not functions.
        """,
    )
    warm_pool = AnyTrait(
        lambda: None,
        config=True,
        help="The warm servers: a function that gives the ``WarmPool``, or nothing.",
    )
    unroute = AnyTrait(
        config=True,
        help="Awaited with the spawner of a server that ended, before its address is free.",
    )
    interface = Unicode("lab", help="``lab`` or ``notebook``: what the user asked for.")
    term_timeout = Float(
        10.0, config=True, help="Seconds a server has to end by itself when it is stopped."
    )

    _background: set[asyncio.Task[None]] = set()
    _firewalled = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.last_failure: dict[str, Any] | None = None
        """Why the last server ended or did not start: ``reason``, ``message``, ``at``."""
        self.stop_message = ""
        """How far a stop is: what the storage says while it uploads."""
        self._progress = StartProgress()
        self._starting: asyncio.Task[Any] | None = None
        self._stopping = False
        self.after_start: asyncio.Task[Any] | None = None
        """What a start has left to be done."""
        self.holds_storage = False
        self._cancelled = ""
        self.path = "cold"
        """How the server was started: from the pool (``warm``), or from nothing."""
        self._claim = Claim(lambda: self.warm_pool(), self._warm_fault)
        self._told: asyncio.Future[None] | None = None
        self.attachment = Attachment()
        self.front_end: Mapping[str, str] = {}
        """Where the edge serves the image's static files, by part."""
        self._poll_lock = asyncio.Lock()
        self._own_uids: UidRange | None = None
        self._server_container: ServerContainer | None = None
        super().__init__(*args, **kwargs)

    # -- what JupyterHub's and DockerSpawner's traits ask for

    @default("object_name")
    def _object_name_default(self) -> str:
        name = f"taccuino-{self.settings.port}-{slug(self.user.name)}"
        return f"{name}.{slug(self.name)}" if self.name else name

    @default("storage")
    def _default_storage(self) -> Any:
        return lambda _spawner: NoStorage()

    @property
    def client(self) -> Any:
        """The engine's blocking client, for what DockerSpawner does by itself."""
        return self.engine.client

    @property
    def engine(self) -> Engine:
        """The engine that the settings name."""
        return engine_for(self.settings.engine)

    @property
    def container(self) -> ServerContainer:
        """The server's container and network, made or not."""
        if self._server_container is None:
            labels = {USER_LABEL: self.user.name, SERVER_LABEL: self.name or ""}
            self._server_container = ServerContainer(
                self.settings, self.engine, self.object_name, labels
            )
        return self._server_container

    @property
    def engine_names(self) -> set[str]:
        """The names by which the engine may know what is this server's."""
        return {self.object_name, self.container.name}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take up a server that ran before the hub was started again."""
        super().load_state(state)
        take_up(self, state)

    def get_state(self) -> dict[str, Any]:
        """What a hub that starts again must know; also why the last server ended."""
        return {**super().get_state(), **kept_state(self)}

    def clear_state(self) -> None:
        """Forget the server, but not why it ended."""
        super().clear_state()
        self.object_id = ""

    def get_env(self) -> dict[str, str]:
        """The server's environment: ours, the storage's, then JupyterHub's."""
        api, _ = server_api(self.settings, self.container.gateway)
        self.hub_connect_url = api.removesuffix(urlparse(self.hub.api_url).path)
        ours = notebook_environment(
            self.settings, self.user.name, self.interface, self.attachment, self.front_end
        )
        return {**ours, **super().get_env()}

    # -- start

    async def start(self) -> str:
        """Start the server; returns its address once it is ready.

        Raises
        ------
        StartFailure
            With the reason in words; all that the start had made is removed by then.
        """
        progress = self._progress
        self._starting = asyncio.current_task()
        self.last_failure = None
        began = time.monotonic()
        try:
            lane: Lane = "warm" if self._claim.begin(self.image) else "cold"
            async with start_queue().turn(progress.wait_in_queue, lane):
                find_room(self.settings, self.mem_limit, start_queue().under_way() - 1)
                self.holds_storage = True
                address = await self._attempts(progress)
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.ensure_future(self._clean_up()))
            if not self._cancelled:
                raise
            failure = Failure("cancelled", self._cancelled, retryable=False, status=409)
            START_FAILURES.labels(failure.reason).inc()
            raise StartFailure(failure) from None
        else:
            START_SECONDS.labels(self.path).observe(time.monotonic() - began)
            return address
        finally:
            self._claim.end()
            self._starting, self._cancelled = None, ""
            progress.close()
            self._progress = StartProgress()

    def cancel_start(self, message: str = "The start was stopped.") -> bool:
        """Give a pending start up and clean up after it; whether there is one."""
        if self._starting is None:
            return False
        if not self._cancelled:
            self._cancelled = message
            self._progress.give_up("Stopping the start")
            self._starting.cancel()
        return True

    @property
    def cancelling(self) -> bool:
        """Whether a start was given up and is being cleaned up after."""
        return bool(self._cancelled)

    async def _attempts(self, progress: StartProgress) -> str:
        settings = self.settings.engine
        limit = settings.start_attempts
        for attempt in range(1, limit + 1):
            try:
                return await progress.watch(self._attempt(progress), settings.start_timeout)
            except Exception as error:
                failure = await self._explain(error, progress)
                self.log.warning(
                    "Start %d of %d of %s failed (%s): %s",
                    *(attempt, limit, self._log_name, failure.reason, error),
                    exc_info=failure.reason == "internal",
                )
                await self._clean_up(keep_storage=failure.retryable and attempt < limit)
                if not failure.retryable or attempt == limit:
                    self.last_failure = failure.as_state()
                    START_FAILURES.labels(failure.reason).inc()
                    raise StartFailure(failure) from error
                progress.notice(f"{failure.message} Trying again ({attempt + 1} of {limit}).")
                progress.restart()
                if isinstance(error, EngineUnreachableError):
                    await self.engine.wait_reachable(_RECONNECT_SECONDS)
        raise AssertionError("start_attempts is at least 1")

    async def _attempt(self, progress: StartProgress) -> str:
        await self._ensure_firewall()
        progress.enter("storage")
        own = await self._uids()
        held = await SharedStorage(self.user.name).mounted_for(self._server_storage)
        # While a user's files are mounted, all of their servers have the uids of these mounts.
        if held is None and (warm := self._claim.take(self.image)):
            try:
                self.path = "warm"
                return await start_warm(self, warm, own, progress)
            except (EngineError, ContainerExitedError, ServerFailedError, OSError) as error:
                WARM_CLAIMS.labels("failed").inc()
                self.log.warning("%s starts cold: %s", self._log_name, error)
                held = warm.uids.uid
                await self._remove_container()
            except FilesOutdatedError as error:
                self.log.info("%s starts cold: %s", self._log_name, error)
                await self._remove_container()
        self.path = "cold"
        uids = own if held is None else UidRange.of(held)
        with self._claim.making():
            return await start_cold(self, uids, own, progress)

    def _warm_fault(self) -> str:
        """Why no warm server can be as this one must be, if so."""
        differs = self.volumes or self.read_only_volumes
        return "DockerSpawner.volumes may differ by user" if differs else ""

    def expect_word(self) -> asyncio.Future[None]:
        """A future for what the server will say: that it is ready, or why it is not."""
        self._told = asyncio.get_running_loop().create_future()
        return self._told

    def take_container(self, container: ServerContainer) -> None:
        """Take over a container that was made without a user."""
        container.tell_death_to(self.died_alone)
        self._server_container, self.object_id = container, container.id

    async def _ensure_firewall(self) -> None:
        """Once for each hub: the rules are the same for all servers."""
        if not NotebookSpawner._firewalled:
            await firewall.ensure(self.settings)
            NotebookSpawner._firewalled = True

    async def _uids(self) -> UidRange:
        """The user's host uids; podman maps a range of its own for each user."""
        if self._own_uids is None:
            path = self.settings.state_dir / "engine/uid-ranges.json"
            ranges = UidRanges(path, self.settings.engine.uid_base)
            self._own_uids = await ranges.range_for(self.user.name)
        return self._own_uids

    def mapped_uids(self, uids: UidRange) -> UidRange | None:
        """The range that the engine must be told of."""
        return uids

    def container_spec(self, uids: UidRange | None) -> ContainerSpec:
        """The container that the user asked for."""
        flavour = self.settings.flavours[0]
        cpus: float = self.cpu_limit or flavour.cpus[0]
        memory: int = self.mem_limit or parse_size(flavour.memory[0])
        self.set_trait("cpu_limit", cpus)
        self.set_trait("mem_limit", memory)
        _, hosts = server_api(self.settings, self.container.gateway)
        return ContainerSpec(
            image=self.image,
            environment=self.get_env(),
            labels=self.container.labels,
            network=self.container.network,
            cpus=cpus,
            memory=memory,
            pids_limit=self.settings.engine.pids_limit,
            binds=(*self.attachment.binds, *map(Bind.of_volume, self.volume_binds.items())),
            hosts=hosts,
            uids=uids,
            command=[*self.cmd, *self.get_args()] if self.cmd else (),
        )

    def server_event(self, phase: str, message: str = "") -> None:
        """Take in what the server tells of its start (``POST /servers/events``)."""
        told = self._told
        if self._starting is None or told is None or told.done():
            self.log.debug("%s says %s: %s", self._log_name, phase, message)
            return
        if phase == "ready":
            told.set_result(None)
        elif phase == "failed":
            words = clean_log(message).replace("\n", " ")
            told.set_exception(ServerFailedError(words or "it did not say why"))
        else:
            words = clean_log(message).replace("\n", " ")
            self._progress.detail(words or _SERVER_PHASES.get(phase, phase))

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """The start's events, for JupyterHub's progress page and API."""
        async for event in self._progress.stream():
            yield event

    async def _explain(
        self, error: BaseException | None, progress: StartProgress | None = None
    ) -> Failure:
        """Gather what is known before the container goes, and put it into words."""
        reachable = not isinstance(error, EngineUnreachableError)
        code, oom_kills, log = await self.container.end(ask_engine=reachable)
        return explain_failure(
            Evidence(
                error=error,
                image=self.image,
                memory=int(self.mem_limit or 0),
                phase=progress.sentence if progress else "",
                exit_code=code,
                oom_kills=oom_kills,
                log=log,
                was_ready=progress is None,
            )
        )

    # -- storage

    @property
    def _server_storage(self) -> ServerStorage:
        storage = self.storage
        return storage if hasattr(storage, "attach") else storage(self)  # type: ignore[no-any-return]

    async def attach(
        self, ids: ServerIds, progress: StartProgress, place: str | None = None
    ) -> None:
        """Make the user's files usable by a server with these ids."""
        shared, storage = SharedStorage(self.user.name), self._server_storage
        self.attachment = await shared.attach(storage, ids, progress.detail, place)
        for fault in self.attachment.faults:
            progress.notice(fault)

    async def _detach(self) -> None:
        self.holds_storage = False
        if self.after_start is not None:  # it may be about to mount something still
            self.after_start.cancel()
            await asyncio.wait({self.after_start})
            self.after_start = None

        def in_use() -> bool:
            spawners = getattr(self.user, "spawners", {self.name: self})
            return any(one.holds_storage for one in spawners.values())

        shared = SharedStorage(self.user.name)
        await shared.detach(self._server_storage, in_use, self._say_while_stopping)

    def _say_while_stopping(self, message: str) -> None:
        self.stop_message = message
        self.log.info("%s: %s", self._log_name, message)

    # -- life and end

    async def poll(self) -> int | None:
        """``None`` while the server runs, or nobody knows; else its exit code.

        An engine that can't be asked is no reason to stop a server. Of a server that ended,
        the reason is kept and all that belonged to it is removed: JupyterHub calls ``stop``
        only for those that run.
        """
        if self._starting is not None or self._stopping or self.container.watched_alive:
            return None
        async with self._poll_lock:
            if not self.object_id:
                return 0
            try:
                if await self.container.running(self.died_alone):
                    return None
                await self._unroute()
                failure = await self._explain(None)
            except EngineError as error:
                self.log.warning("Is %s running? %s", self._log_name, error)
                return None
            if failure.exit_code != 0:
                self.log.warning("%s ended: %s", self._log_name, failure.message)
                self.last_failure = failure.as_state()
            await self._clean_up()
            return 1 if failure.exit_code is None else failure.exit_code

    async def _unroute(self) -> None:
        try:
            if self.unroute is not None:
                await self.unroute(self)
        except TaccuinoError as error:  # JupyterHub removes the route again in a moment
            self.log.warning("%s ended, and is still led to: %s", self._log_name, error)

    def died_alone(self) -> None:
        """A running server's process ended: tell the hub now, not at its next look."""
        if self._starting is None and not self._stopping and not self._spawn_pending:
            self.in_background(self.poll_and_notify())

    async def stop(self, now: bool = False) -> None:
        """Stop the server, then upload and unmount, then remove what it had."""
        if self._starting is not None:
            starting = self._starting
            self.cancel_start()
            await asyncio.wait({starting})
            return
        self._stopping = True
        try:
            try:
                await self._stop_container(now=now)
            except EngineUnreachableError:
                await self.engine.wait_reachable(_RECONNECT_SECONDS)
                await self._stop_container(now=now)
            self.object_id = ""
            await self._detach()
        finally:
            self._stopping = False
        self.clear_state()

    async def _stop_container(self, *, now: bool) -> None:
        if self.container.id and not now:
            await self.container.terminate(self.term_timeout)
        await self.container.remove()
        self._server_container = None

    async def _clean_up(self, *, keep_storage: bool = False) -> None:
        """Remove container and network; let go of the storage in the background.

        What an unreachable engine keeps is removed by ``reconcile`` later.
        """
        await self._remove_container()
        if not keep_storage:
            self.holds_storage = False
            self.in_background(self._detach())

    async def _remove_container(self) -> None:
        try:
            await self.container.remove()
        except EngineError as error:
            self.log.warning("Left for reconcile: %s", error)
        self._server_container = None
        self.object_id = ""

    def in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let it go on by itself."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def notices(self) -> list[dict[str, str]]:
        """What the user should be told while the server runs."""
        kills = self.container.oom_kills()
        return [memory_notice(kills)] if kills else []
