"""Jupyter's kernels: one is started ahead, and a directory that hangs stops none of them."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import closing, suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.provisioning.factory import KernelProvisionerFactory
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from .contents import Contents, in_cloud
from .exporters import import_exporters
from .limits import memory_room, room_for_a_spare
from .spares import Spares, spare_command

__all__ = ["KernelConnection", "Kernels", "SpareProvisioner"]

SPARE_VARIABLE = "TACCUINO_SPARE_KERNEL"
"""``0``: this server starts no kernel ahead."""
_PAGE_SECONDS = 1.0
"""For so long the processor is left to a page that loads."""
_PROVISIONER = "taccuino-spare"
_PLAIN = "local-provisioner"
_LISTENS_SECONDS = 1.0
_LOOK_SECONDS = 0.005
_KNOWN_OPTIONS = frozenset({"cwd", "env", "extra_arguments", "kernel_id"})


class Kernels(AsyncMappingKernelManager):
    """Jupyter's kernels, of which one is started ahead while somebody has a page open."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.spares = Spares(self.log)
        self._soon: asyncio.TimerHandle | None = None

    async def start_kernel(self, **options: Any) -> Any:
        """Start a kernel, in whose first cell the object storage is there."""
        files = getattr(self.parent, "contents_manager", None)
        if isinstance(files, Contents):
            await files.storage_gate.wait()
        return await super().start_kernel(**options)

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
        return list(super().list_kernels())

    def _make_ready(self) -> None:
        """What a notebook that is opened now would wait for."""
        self._soon = None
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
        files = getattr(self.parent, "contents_manager", None)
        if in_cloud(path) and isinstance(files, Contents) and files.cloud_silent:
            return str(self.root_dir)
        return str(super().cwd_for_path(path, **options))


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
