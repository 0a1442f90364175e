"""``GET /hub/ready``: the readiness, for load balancers, peers, alerts and ``taccuino up``."""

from __future__ import annotations

from jupyterhub.handlers.base import BaseHandler

from taccuino.hub.readiness import Readiness

__all__ = ["ReadyHandler"]


class ReadyHandler(BaseHandler):
    """Answers without a login; 503 when servers can't be started."""

    def initialize(self, readiness: Readiness) -> None:
        """Take the readiness, which all requests share."""
        super().initialize()
        self.readiness = readiness

    async def prepare(self) -> None:
        """Look for no user: a probe has none, and the database may be what is away."""

    def get_content_type(self) -> str:
        """JSON."""
        return "application/json"

    async def get(self) -> None:
        """Answer ``{"ready", "starting", "checks": {name: {"state", "latency_ms"}}}``.

        A check that failed has a ``message``. ``starting`` is how many servers start,
        those that wait for their turn included.
        """
        report = await self.readiness.report()
        self.set_status(200 if report.ready else 503)
        self.set_header("Cache-Control", "no-store")
        starting = sum(
            spawner.pending == "spawn"
            for user in self.users.values()
            for spawner in user.spawners.values()
        )
        self.finish({**report.as_json(), "starting": starting})

    async def head(self) -> None:
        """Answer as ``get`` does, with no body."""
        report = await self.readiness.report()
        self.set_status(200 if report.ready else 503)
        self.finish()
