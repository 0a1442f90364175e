"""Jupyter's kernels: one is started ahead, and a directory that hangs stops none of them.

While somebody has a page open, an interpreter waits that has imported what a kernel imports
(`Spares`). When a notebook is read it becomes that notebook's kernel, which its page will ask
for once it has drawn the notebook: a tenth of a second later, in which the kernel starts.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Coroutine, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.paths import jupyter_path
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from traitlets import default

from .contents import Contents, in_cloud
from .exporters import import_exporters
from .limits import memory_room, room_for_a_spare
from .spares import Spares, spare_command

__all__ = ["KernelConnection", "KernelSpecs", "Kernels", "SpareProvisioner"]

T = TypeVar("T")

SPARE_VARIABLE = "TACCUINO_SPARE_KERNEL"
"""``0``: this server starts no kernel ahead."""
_PAGE_SECONDS = 1.0
"""For so long the processor is left to a page that loads."""
_ASKED_FOR_SECONDS = 10.0
"""A kernel that was started for a notebook that was read, and is not asked for, ends then."""
_PROVISIONER = "taccuino-spare"
_PLAIN = "local-provisioner"
_LISTENS_SECONDS = 1.0
_LOOK_SECONDS = 0.005
_KNOWN_OPTIONS = frozenset({"cwd", "env", "extra_arguments", "kernel_id"})


@dataclass(frozen=True)
class _Ahead:
    """A kernel that nobody has asked for yet: what it will be asked for with, and its start."""

    kernel_id: str
    options: Mapping[str, Any]
    start: asyncio.Task[str]


class Kernels(AsyncMappingKernelManager):
    """Jupyter's kernels, of which one is started ahead while somebody has a page open."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.spares = Spares(self.log)
        self._soon: asyncio.TimerHandle | None = None
        self._ahead: _Ahead | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start_kernel(self, **options: Any) -> Any:
        """Start a kernel, in whose first cell the object storage is there."""
        return await self._take_ahead(options) or await self._start(**options)

    async def _start(self, **options: Any) -> Any:
        if self._files:
            await self._files.storage_gate.wait()
        return await super().start_kernel(**options)

    @property
    def _files(self) -> Contents | None:
        files = getattr(self.parent, "contents_manager", None)
        return files if isinstance(files, Contents) else None

    def expect(self, path: str, notebook: Mapping[str, Any]) -> None:
        """A notebook was read: start its kernel out of the spare, unless it has one."""
        name: Any = notebook
        for key in ("metadata", "kernelspec", "name"):  # whatever somebody wrote there
            name = name.get(key) if isinstance(name, Mapping) else None
        spared = self.default_kernel_name
        if name in (None, spared) and self.spares.ready and self._ahead is None:
            self._in_background(self._start_ahead(path.strip("/"), spared))

    async def _start_ahead(self, path: str, kernel_name: str) -> None:
        sessions = self.parent.session_manager
        if any(session["path"] == path for session in await sessions.list_sessions()):
            return
        # As the session manager does it when it is asked for a kernel.
        directory = await self.parent.contents_manager.get_kernel_path(path=path)
        env = sessions.get_kernel_env(path, PurePosixPath(path).name)
        options = {"kernel_name": kernel_name, "path": directory, "env": env}
        if self._ahead is not None or not self.spares.ready:
            return  # somebody was quicker
        kernel_id = self.new_kernel_id()
        start = self._in_background(self._start(kernel_id=kernel_id, **options))
        self._ahead = ahead = _Ahead(kernel_id, options, start)
        await asyncio.sleep(_ASKED_FOR_SECONDS)
        if self._ahead is ahead:
            self._ahead = None
            await self.shutdown_kernel(await ahead.start, now=True)

    async def _take_ahead(self, options: Mapping[str, Any]) -> str:
        """The kernel that was started ahead, if it is the one that is asked for now."""
        ahead = self._ahead
        given = {name: value for name, value in options.items() if value is not None}
        if ahead is None or ahead.options != given:
            return ""
        self._ahead = None
        with suppress(Exception):  # a start that failed is logged, and another one follows
            kernel = self.get_kernel(await ahead.start)
            if await kernel.is_alive():
                return ahead.kernel_id
        return ""

    def _in_background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def pre_start_kernel(self, kernel_name: str | None, kwargs: Any) -> Any:
        """Called before each start: see that the kernel is started by `SpareProvisioner`.

        But for kernelspecs, or a server, that were configured to use another provisioner.
        """
        factory = KernelProvisionerFactory.instance(parent=self)
        if factory.default_provisioner_name == _PLAIN:
            location = f"{__name__}:{SpareProvisioner.__name__}"
            entry = EntryPoint(_PROVISIONER, location, KernelProvisionerFactory.GROUP_NAME)
            factory.provisioners[_PROVISIONER] = entry
            factory.default_provisioner_name = _PROVISIONER
        return super().pre_start_kernel(kernel_name, kwargs)

    def list_kernels(self) -> list[Any]:
        """What runs. A page asks as it loads, before it opens a notebook, and then again."""
        if self._soon is None:
            loop = asyncio.get_running_loop()
            self._soon = loop.call_later(_PAGE_SECONDS, self._make_ready)
        nobodys = self._ahead.kernel_id if self._ahead else ""
        return [kernel for kernel in super().list_kernels() if kernel["id"] != nobodys]

    def _make_ready(self) -> None:
        """What a notebook that is opened now would wait for."""
        self._soon = None
        if self._files:
            self._files.on_notebook = self.expect
        self._keep_a_spare()
        import_exporters()

    def _keep_a_spare(self) -> None:
        if os.environ.get(SPARE_VARIABLE) == "0":
            return
        if not room_for_a_spare(*memory_room()):
            self.spares.release()
        elif self.spares.due:
            name = self.default_kernel_name
            kernel = self.kernel_manager_factory(parent=self, log=self.log, kernel_name=name)
            try:
                env = {**os.environ, **kernel.kernel_spec.env}
            except NoSuchKernel:
                self.spares.rest()
            else:
                self.spares.prepare(kernel.format_kernel_cmd(), env, self.root_dir)

    def cwd_for_path(self, path: str, **options: Any) -> str:
        """The directory of an API path. In the event loop: nobody may look at a silent one."""
        if in_cloud(path) and self._files and self._files.cloud_silent:
            return str(self.root_dir)
        return str(super().cwd_for_path(path, **options))


class KernelSpecs(KernelSpecManager):
    """Jupyter's kernelspecs, found without IPython, which takes 20 ms to import."""

    @default("kernel_dirs")
    def _kernel_dirs_default(self) -> list[str]:
        # The last is where IPython 2 kept them, and jupyter_client still looks.
        ipython = os.environ.get("IPYTHONDIR") or "~/.ipython"
        return [*jupyter_path("kernels"), str(Path(ipython).expanduser() / "kernels")]


class SpareProvisioner(LocalProvisioner):
    """Starts a kernel on this machine, out of the spare where it is the same kernel."""

    async def launch_kernel(self, cmd: list[str], **options: Any) -> Any:
        """Start the kernel. One of IPython listens when this returns, if it takes no longer."""
        kernels = getattr(self.parent, "parent", None)
        spares = kernels.spares if isinstance(kernels, Kernels) else None
        spare = self._spare(spares, cmd, **options) if spares else None
        if spare is None:
            await super().launch_kernel(cmd, **options)
        else:
            self.process, self.cwd = spare, options.get("cwd", Path.cwd())
            self.pid = self.pgid = spare.pid  # the leader of its session
        if spares:
            spares.rest()
        if spare_command(cmd):
            await self._until_it_listens()
        return self.connection_info

    def _spare(self, spares: Spares, cmd: list[str], **options: Any) -> Any:
        if not _KNOWN_OPTIONS.issuperset(options):
            return None  # standard output led elsewhere, for example
        env = options.get("env") or os.environ
        return spares.take(cmd, env, str(options.get("cwd") or Path.cwd()))

    async def _until_it_listens(self) -> None:
        """Jupyter connects at once, and ZeroMQ tries again only 0.1 s after it was refused."""
        if self.connection_info["transport"] != "tcp":
            return
        address = self.connection_info["ip"], self.connection_info["hb_port"]  # the last one
        end = time.monotonic() + _LISTENS_SECONDS
        while time.monotonic() < end and await self.poll() is None:
            with closing(socket.socket()) as probe:
                probe.setblocking(False)
                with suppress(OSError):
                    await asyncio.wait_for(
                        asyncio.get_running_loop().sock_connect(probe, address), 0.1
                    )
                    return
            await asyncio.sleep(_LOOK_SECONDS)


class KernelConnection(ZMQChannelsWebsocketConnection):
    """A page's connection to a kernel, whose small messages do not wait for each other."""

    async def connect(self) -> Any:
        """Nagle's algorithm would hold back what follows a message, for 40 ms."""
        self.websocket_handler.set_nodelay(True)
        return await super().connect()
