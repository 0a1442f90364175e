"""JupyterHub's server extension, which asks the hub after the server listens, not before."""

from __future__ import annotations

import asyncio
import gc
import os
import random
from typing import Any, ClassVar

from jupyterhub._version import __version__, _check_version
from jupyterhub.singleuser.extension import (
    JupyterHubIdentityProvider,
    JupyterHubSingleUser,
    fetch,
)
from tornado.web import HTTPError
from traitlets import default

from .hub_auth import HubAuth
from .prefork import FilesGate

__all__ = ["NotebookIdentityProvider", "NotebookServer"]

_REST = 0.05
"""Of the time between two reports of activity: for so long a new server asks the hub nothing,
and by as much those differ that start together."""
_LEAST_REST_SECONDS = 4.0
_LONGEST_PAUSE = 60.0


class NotebookIdentityProvider(JupyterHubIdentityProvider):
    """JupyterHub's own, over `HubAuth`."""

    @default("hub_auth")
    def _outliving_hub_auth(self) -> HubAuth:
        return HubAuth(parent=self)

    async def get_user(self, handler: Any) -> Any:
        """Whom the request is from; see `HubAuth`."""
        try:
            return await super().get_user(handler)
        except HTTPError:
            handler.current_user = None  # the error's page asks for it
            raise


class NotebookServer(JupyterHubSingleUser):
    """Upstream's extension; what it asks of the hub as it starts is put off until it is up.

    The hub knows already that the server is starting: it need not answer before the server
    does, and a hub that is away is no reason to end, as upstream's does after a minute. Asking
    takes an HTTP client, whose import would hold up the first page, and those of a whole
    class at once everybody's: `_rest`.
    """

    _gate: ClassVar[FilesGate | None] = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._listening = asyncio.Event()
        self._version_check: asyncio.Task[None] | None = None

    @classmethod
    def launch_with(cls, gate: FilesGate) -> None:
        """Launch it, and wait at the gate when all is done but to listen for requests."""
        cls._gate = gate
        cls.launch_instance()

    @classmethod
    def initialize_server(cls, *arguments: Any, **options: Any) -> Any:
        """Initialize Jupyter Server, until the user's files are needed."""
        server = super().initialize_server(*arguments, **options)
        if cls._gate is not None:
            cls._gate.wait()
        return server

    @classmethod
    def get_extension_package(cls) -> str:
        """Where Jupyter Server finds this extension; by default, the outermost package."""
        return __name__

    def load_config_file(self) -> None:
        """Take up what upstream read of the environment as it was imported, in the pool.

        With another prefix a user's cookie would be sent to all servers of the address.
        """
        auth = self.config.HubAuth
        auth.base_url = os.environ.get("JUPYTERHUB_SERVICE_PREFIX") or "/"
        for trait in ("keyfile", "certfile", "client_ca"):
            setattr(auth, trait, os.environ.get(f"JUPYTERHUB_SSL_{trait.upper()}", ""))
        super().load_config_file()
        # What tells users apart while the hub is away.
        self.config.ServerApp.identity_provider_class = NotebookIdentityProvider
        self.serverapp.update_config(self.config)

    async def check_hub_version(self) -> None:
        """Nothing yet: upstream waits for this before the server listens."""

    async def keep_activity_updated(self) -> None:
        """Tell the hub of activity, from soon after the server listens."""
        await self._listening.wait()
        await self._rest()
        await super().keep_activity_updated()

    async def _start_jupyter_server_extension(self, _serverapp: Any) -> None:
        """Called by Jupyter Server once it listens."""
        # What is there now stays for the server's life: collections need not look at it.
        gc.freeze()
        gc.enable()
        self._version_check = asyncio.create_task(self._check_version())
        self._listening.set()

    async def _check_version(self) -> None:
        await self._rest()
        pause = 2.0
        while True:
            try:
                answer = await fetch(self.hub_auth.api_url, **self.hub_http_client_opts)
            except Exception as error:  # noqa: BLE001 - whatever keeps it from answering
                self.log.warning("The hub does not answer, asked for its version: %r", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                version = answer.headers.get("X-JupyterHub-Version")
                _check_version(version, __version__, self.log)
                return

    async def _rest(self) -> None:
        rest = _REST * self.hub_activity_interval
        pause = max(rest, _LEAST_REST_SECONDS) + random.uniform(0, rest)  # noqa: S311 - no secret
        await asyncio.sleep(pause)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": __name__, "app": NotebookServer}]
