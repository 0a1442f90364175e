"""Stand-ins for the parts around the hub, so that its own behaviour is tested without them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner
from traitlets import Unicode

from taccuino.engines import StartFailure
from taccuino.engines.failures import Failure


class MemoryProxy(Proxy):
    """Keeps the routes and proxies nothing: the tests talk to the hub itself."""

    should_start = False
    routes: dict = {}

    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)

    async def get_all_routes(self):
        return dict(self.routes)


class StandInSpawner(SimpleLocalProcessSpawner):
    """Starts a small program that answers as a notebook server does."""

    image = Unicode()
    interface = Unicode()
    phases = (
        (10, "storage", "Preparing your storage"),
        (40, "container", "Creating the container"),
        (70, "jupyter", "Starting Jupyter"),
    )
    cmd = [sys.executable, str(Path(__file__).with_name("stand_in_notebook.py"))]
    args = []
    events: list = []
    starting = None
    cancelling = False
    stop_message = ""

    def server_event(self, phase, message):
        self.events.append((phase, message))

    def get_env(self):
        return {**super().get_env(), "STAND_IN_STATE": str(Path.cwd() / "stand-in.json")}

    async def start(self):
        if self.user.name == "unlucky":
            error = RuntimeError("internal detail")
            error.jupyterhub_message = "The image could not be found. An operator was told."
            raise error
        self.starting = asyncio.current_task()
        try:
            if self.user.name.startswith("slow"):
                await asyncio.sleep(8)
        except asyncio.CancelledError:
            await asyncio.sleep(1.5)  # longer than JupyterHub allows for the clean-up
            failure = Failure(
                "cancelled", "The start was stopped.", retryable=False, status=409
            )
            raise StartFailure(failure) from None
        finally:
            self.starting, self.cancelling = None, False
        where = await super().start()
        Path(f"{self.user.name}.pid").write_text(str(self.pid))
        Path(f"{self.user.name}.token").write_text(self.api_token)
        return where

    def cancel_start(self):
        if self.starting is None:
            return False
        if not self.cancelling:
            self.cancelling = True
            self.starting.cancel()
        return True

    async def stop(self, now=False):
        if self.user.name.startswith("uploading"):
            self.stop_message = "Uploading to the object storage: 7 files left"
            await asyncio.sleep(2)
        await super().stop(now=now)

    async def progress(self):
        for progress, phase, message in self.phases:
            yield {"progress": progress, "phase": phase, "message": message}
            await asyncio.sleep(0.5)
